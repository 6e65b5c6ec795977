//! Who may use whom: a room uses only what stands above it (ARCHITECTURE.md).

use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom.
const ROOMS: &[&str] = &[
    "types",
    "env",
    "config",
    "protocol",
    "client",
    "segment",
    "zerocopy",
    "metadata",
    "raft",
    "controller",
    "partition",
    "replication",
    "coordinator",
    "server",
    "admin",
    "node",
    "cli",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn rooms_use_only_what_stands_above_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("below the root");
        let first = inside.iter().next().expect("a name").to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs").to_owned();
        let Some(place) = ROOMS.iter().position(|known| *known == room) else { continue };
        for (number, line) in fs::read_to_string(&file).expect("readable").lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + 7..];
                let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_below =
                    ROOMS.iter().position(|known| *known == used).is_some_and(|other| other > place);
                if is_below {
                    wrong.push(format!("{}:{}: {room} uses {used}", inside.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_in_its_places() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let inside = file.strip_prefix(&root).expect("below the root");
        if inside.starts_with("env/real") || inside.starts_with("zerocopy") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        assert!(!text.contains("unsafe {"), "{}", inside.display());
    }
}
