//! This process as the kernel sees it.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// What operators look at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessNumbers {
    /// In user and system mode.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    pub open_files_max: u64,
    /// Since 1970.
    pub started_seconds: f64,
}

/// The numbers as they are now.
pub fn numbers() -> io::Result<ProcessNumbers> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program stands in brackets, and may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(stat.as_str(), |(_, rest)| rest).split_whitespace().collect();
    // proc_pid_stat(5) counts from 1, and the first two are gone.
    let field = |number: usize| -> io::Result<u64> {
        let text = fields.get(number - 3).and_then(|text| text.parse().ok());
        text.ok_or_else(|| io::Error::other("/proc/self/stat cannot be read"))
    };
    let ticks = configured(SysconfVar::CLK_TCK)? as f64;
    let system = fs::read_to_string("/proc/stat")?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    let (open_files_max, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(ProcessNumbers {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        resident_bytes: field(24)? * configured(SysconfVar::PAGE_SIZE)?,
        virtual_bytes: field(23)?,
        threads: field(20)?,
        // The folder itself is open while it is read.
        open_files: (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
        open_files_max,
        started_seconds: booted.unwrap_or_default() as f64 + field(22)? as f64 / ticks,
    })
}

/// Memory that is in use and present.
pub fn resident_bytes() -> io::Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm cannot be read"))?;
    Ok(pages * configured(SysconfVar::PAGE_SIZE)?)
}

fn configured(variable: SysconfVar) -> io::Result<u64> {
    let value = sysconf(variable)?.and_then(|value| u64::try_from(value).ok());
    value.ok_or_else(|| io::Error::other("the system does not say what its units are"))
}

/// Gives memory that was freed back to the system. Takes each of the allocator's locks for some milliseconds per hundred
/// megabytes.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_this_process() {
        let numbers = numbers().expect("is Linux");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert!(
            numbers.started_seconds > 1e9 && numbers.started_seconds < now.as_secs_f64() + 2.0,
            "{numbers:?}"
        );
        assert!(
            numbers.resident_bytes > 1 << 20 && numbers.resident_bytes < numbers.virtual_bytes,
            "{numbers:?}"
        );
        assert!(numbers.open_files >= 3 && numbers.open_files < numbers.open_files_max, "{numbers:?}");
        assert!(numbers.threads >= 1, "{numbers:?}");
        assert!(resident_bytes().expect("is Linux") > 1 << 20);
    }
}
