//! The kernel's randomness, from the seed.
//!
//! The standard library's hash maps, tokio (the order in which `select!` polls) and the `getrandom` crates ask the C library for
//! random bytes. Defined in this binary, the function is found here first, by the linker (the standard library) and by
//! `dlsym` (the crates, as a symbol that a shared library defines as well is exported). So a thread of a simulation gets
//! bytes from its seed, and every other thread the kernel's.
//!
//! Not reached is who makes the system call by itself: `rand` 0.8, which openraft draws its election timeout from.

use std::cell::RefCell;

use raftsman::env::sim::SimRandom;

thread_local! {
    static RANDOM: RefCell<Option<SimRandom>> = const { RefCell::new(None) };
}

/// From now on all randomness of this thread comes from the seed. Call it first of all: what was drawn before was not.
pub(crate) fn seed(seed: u64) {
    RANDOM.set(Some(SimRandom::new(seed)));
}

/// As the C library has it.
///
/// # Safety
/// `buffer` is good for writing `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
    let seeded = RANDOM.try_with(|random| {
        let mut random = random.try_borrow_mut().ok()?;
        let random = random.as_mut()?;
        // SAFETY: whoever calls this has room for `len` bytes; no reference to them lives meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
        bytes.fill_with(|| random.next_u64() as u8);
        Some(())
    });
    match seeded {
        Ok(Some(())) => len.cast_signed(),
        // SAFETY: the same arguments, to the kernel.
        _ => unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as isize },
    }
}

/// As the C library has it: 256 bytes at most, 0 for success.
///
/// # Safety
/// `buffer` is good for writing `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getentropy(buffer: *mut u8, len: usize) -> i32 {
    // SAFETY: as for this function.
    if len <= 256 && unsafe { getrandom(buffer, len, 0) } == len.cast_signed() { 0 } else { -1 }
}
