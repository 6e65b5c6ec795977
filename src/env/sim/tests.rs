//! One suite for both disks, and what only the simulated one does.

use std::io::{ErrorKind, IoSlice};

use super::*;
use crate::env::real::RealDisk;

fn write(file: &dyn File, position: u64, bytes: &[u8]) {
    file.write_all_at(&mut [IoSlice::new(bytes)], position).unwrap();
}

/// What every disk must do.
fn conforms(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    assert_eq!(disk.open(&path, OpenMode::ReadWrite).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open(&dir.join("x/f"), OpenMode::Create).unwrap_err().kind(), ErrorKind::NotFound);
    let file = disk.open(&path, OpenMode::Create).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_all_at(&mut [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")], 3).unwrap();
    let mut bytes = [9; 16];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 8);
    assert_eq!(&bytes[..8], b"\0\0\0abcde");
    assert_eq!(file.read_at(&mut bytes, 100).unwrap(), 0);
    // Opening to create does not truncate; handles see each other's writes.
    let again = disk.open(&path, OpenMode::Create).unwrap();
    write(&*again, 0, b"xyz");
    assert_eq!(disk.read(&path).unwrap(), b"xyzabcde");
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(disk.read(&path).unwrap(), b"xy\0\0");
    let reader = disk.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_all_at(&mut [IoSlice::new(b"q")], 0).is_err());
    file.sync_data().unwrap();
    disk.sync_dir(&dir).unwrap();

    disk.write_atomic(&dir.join("g"), b"old").unwrap();
    disk.write_atomic(&dir.join("g"), b"new").unwrap();
    let mut entries = disk.list(&dir).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_dir, e.len)).collect();
    assert_eq!(names, [("f", false, 4), ("g", false, 3)]);
    assert_eq!(
        disk.list(&root.join("a")).unwrap(),
        [DirEntry { name: "b".into(), is_dir: true, len: 0, modified_ms: 0 }]
    );

    // A rename replaces; who has the old file open reads on, and so does who has a removed one.
    let old = disk.open(&dir.join("g"), OpenMode::Read).unwrap();
    disk.rename(&path, &dir.join("g")).unwrap();
    assert_eq!(old.len().unwrap(), 3);
    assert!(!disk.exists(&path));
    disk.rename(&dir, &root.join("c")).unwrap();
    assert_eq!(disk.read(&root.join("c/g")).unwrap(), b"xy\0\0");
    disk.remove_file(&root.join("c/g")).unwrap();
    assert_eq!(reader.len().unwrap(), 4);
    assert_eq!(disk.remove_file(&root.join("c/g")).unwrap_err().kind(), ErrorKind::NotFound);
    disk.remove_dir_all(&root.join("a")).unwrap();
    assert!(!disk.exists(&root.join("a")));

    let lock = disk.lock(&root.join("l")).unwrap();
    assert_eq!(disk.lock(&root.join("l")).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    drop(disk.lock(&root.join("l")).unwrap());
    assert!(disk.space(root).unwrap().free_bytes > 0);
}

#[test]
fn the_real_disk_conforms() {
    let root = tempfile::tempdir().unwrap();
    conforms(&RealDisk, root.path());
}

#[test]
fn the_simulated_disk_conforms() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/data")).unwrap();
    conforms(&disk, Path::new("/data"));
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_a_torn_part_of_the_rest() {
    let (mut lost, mut torn, mut whole, mut nameless) = (0, 0, 0, 0);
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.open(path, OpenMode::Create).unwrap();
        write(&*file, 0, b"synced");
        file.sync_data().unwrap();
        let other = disk.open(Path::new("/d/g"), OpenMode::Create).unwrap();
        other.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        write(&*file, 6, &[1; 3000]);
        disk.open(Path::new("/d/new"), OpenMode::Create).unwrap().sync_data().unwrap();
        disk.power_cut();
        assert!(file.read_at(&mut [0], 0).is_err(), "seed {seed}: a dead process' handle works");
        let content = disk.read(path).unwrap();
        assert!(content.starts_with(b"synced"), "seed {seed}");
        assert!(disk.exists(Path::new("/d/g")), "seed {seed}");
        match content.len() {
            6 => lost += 1,
            3006 if content[6..] == [1; 3000] => whole += 1,
            _ => torn += 1,
        }
        nameless += u32::from(!disk.exists(Path::new("/d/new")));
    }
    assert!(lost > 50 && torn > 50 && whole > 50 && nameless > 50, "{lost} {torn} {whole} {nameless}");
}

#[test]
fn an_atomic_write_is_old_or_new_after_any_power_cut() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let path = Path::new("/f");
        disk.write_atomic(path, b"old content").unwrap();
        disk.arm(Faults { fail_sync_in: Some(1 + seed % 2), ..Faults::default() });
        assert!(disk.write_atomic(path, b"new").is_err());
        disk.power_cut();
        let content = disk.read(path).unwrap();
        assert!(content == b"old content" || content == b"new", "seed {seed}: {content:?}");
        disk.write_atomic(path, b"newest").unwrap();
        disk.power_cut();
        assert_eq!(disk.read(path).unwrap(), b"newest", "seed {seed}");
    }
}

#[test]
fn a_folder_that_was_created_durably_is_there_after_any_power_cut() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let dir = Path::new("/a/b/c");
        disk.create_dir_durably(dir).unwrap();
        let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        disk.power_cut();
        assert!(disk.exists(&dir.join("f")), "seed {seed}");
        // Made by a process that ended before it could sync.
        let dir = Path::new("/a/d");
        disk.create_dir_all(dir).unwrap();
        disk.create_dir_durably(dir).unwrap();
        disk.power_cut();
        assert!(disk.exists(dir), "seed {seed}");
    }
}

#[test]
fn what_a_renamed_folder_had_unsynced_is_not_another_one_s_of_its_name() {
    for (seed, is_removed) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let disk = SimDisk::new(seed);
        let (dir, away) = (Path::new("/d"), Path::new("/away"));
        disk.create_dir_durably(dir).unwrap();
        disk.open(&dir.join("old"), OpenMode::Create).unwrap();
        disk.rename(dir, away).unwrap();
        if is_removed {
            disk.remove_dir_all(away).unwrap();
        }
        disk.create_dir_durably(dir).unwrap();
        disk.sync_dir(dir).unwrap();
        disk.power_cut();
        assert!(disk.exists(dir) && !disk.exists(&dir.join("old")), "seed {seed}");
    }
}

#[test]
fn faults_strike_when_they_are_told_to() {
    let disk = SimDisk::new(3);
    let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
    disk.arm(Faults { fail_write_in: Some(2), capacity_bytes: Some(10), ..Faults::default() });
    write(&*file, 0, b"12345");
    let error = file.write_all_at(&mut [IoSlice::new(b"67")], 5).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    file.set_len(5).unwrap();
    let error = file.write_all_at(&mut [IoSlice::new(b"6789abc")], 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read(Path::new("/f")).unwrap(), b"123456789a");
    assert_eq!(disk.open(Path::new("/g"), OpenMode::Create).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&*file, 5, b"again"); // Overwriting needs no room.
}

#[test]
fn a_failed_sync_is_final_for_what_it_gave_up() {
    let loses = |seed| {
        let disk = SimDisk::new(seed);
        let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        write(&*file, 0, b"x");
        disk.arm(Faults { fail_sync_in: Some(1), ..Faults::default() });
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        disk.power_cut();
        disk.read(Path::new("/f")).unwrap().is_empty()
    };
    assert!((0..50).any(loses), "a later sync made up for a failed one");
    assert!(!(0..50).all(loses), "nothing of a failed sync ever reaches the device");
}
