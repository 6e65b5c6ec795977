//! What a process has used, from `/proc`.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// A process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all threads since the process began; in ticks of 10 ms, mostly.
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub resident_peak_bytes: u64,
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`.
///
/// # Errors
/// There is no such process, or it is not ours to look at.
pub(super) fn of_process(pid: u32) -> Result<Usage, String> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    };
    let ticks_per_second = match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) => u64::try_from(ticks).unwrap_or(100).max(1),
        _ => 100,
    };
    let ticks = cpu_ticks(&read("stat")?).ok_or_else(|| format!("/proc/{pid}/stat is not understood"))?;
    let status = read("status")?;
    Ok(Usage {
        cpu: Duration::from_millis(ticks * 1000 / ticks_per_second),
        resident_bytes: kib_of(&status, "VmRSS:").unwrap_or(0) * 1024,
        resident_peak_bytes: kib_of(&status, "VmHWM:").unwrap_or(0) * 1024,
    })
}

/// utime and stime (proc(5), fields 14 and 15). The name of the program, in brackets, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let utime = fields.next()?.parse::<u64>().ok()?;
    let stime = fields.next()?.parse::<u64>().ok()?;
    utime.checked_add(stime)
}

fn kib_of(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "42 (a (b) 1 2) S 1 2 3 4 5 6 7 8 9 10 250 17 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(267));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
        assert_eq!(kib_of("Name: x\nVmRSS:\t  123 kB\n", "VmRSS:"), Some(123));
        assert_eq!(kib_of("Name: x\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_is_found() {
        let usage = of_process(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_peak_bytes >= usage.resident_bytes);
    }
}
