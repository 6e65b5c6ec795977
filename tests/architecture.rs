//! Who may use whom: a room uses only what stands above it (ARCHITECTURE.md), and within a room no file needs one that
//! needs it.

use std::collections::{BTreeMap, BTreeSet};
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

/// A module, as the names of its path.
type Module = Vec<String>;

/// Rooms in which files still need each other; this list may only get shorter.
const WITH_CIRCLES: &[&str] = &["controller", "node", "partition", "raft", "replication"];

/// `use a::{b, c::d};` as paths.
fn expand(prefix: &[String], tree: &str, paths: &mut Vec<Module>) {
    let tree = tree.trim();
    let Some((before, inside)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        let names = path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        paths.push(prefix.iter().cloned().chain(names).collect());
        return;
    };
    let names = before.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let prefix: Vec<String> = prefix.iter().cloned().chain(names).collect();
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inside[begin..at], paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !inside[begin..].trim().is_empty() {
        expand(&prefix, &inside[begin..], paths);
    }
}

/// What a file's code names: by `use`, what it hands on by `pub use`, and paths that begin in the crate.
fn named_in(text: &str) -> (Vec<Module>, Vec<Module>) {
    let (mut used, mut handed_on) = (Vec::new(), Vec::new());
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + " ").collect();
    for statement in code.split(';') {
        let at = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].chars().next_back();
            before.is_none_or(|letter| letter.is_whitespace())
        });
        let tree = at.map(|at| (&statement[..at], &statement[at + 4..]));
        match tree {
            Some((before, tree)) if !tree.contains(['(', '=']) => {
                let word = before.split_whitespace().next_back().unwrap_or("");
                let into = if word.starts_with("pub") { &mut handed_on } else { &mut used };
                expand(&[], tree, into);
            }
            _ => {}
        }
        for start in ["crate::", "super::", "self::"] {
            for (at, _) in statement.match_indices(start) {
                let before = statement[..at].chars().next_back();
                if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                    continue;
                }
                let path = statement[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                expand(&[], path.into_iter().next().unwrap_or("").trim_end_matches(':'), &mut used);
            }
        }
    }
    (used, handed_on)
}

/// The module that a path leads to, and what it names there.
fn resolve(
    from: &Module,
    path: &[String],
    modules: &BTreeMap<Module, String>,
) -> Option<(Module, Option<String>)> {
    let (mut base, mut rest) = (from.clone(), path);
    match rest.first().map(String::as_str) {
        Some("crate") => (base, rest) = (Vec::new(), &rest[1..]),
        Some("super" | "self") => {
            while let Some(word @ ("super" | "self")) = rest.first().map(String::as_str) {
                if word == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        Some(name) => {
            let child: Module = base.iter().cloned().chain([name.to_owned()]).collect();
            modules.contains_key(&child).then_some(())?;
        }
        None => return None,
    }
    while let Some(name) = rest.first() {
        let child: Module = base.iter().cloned().chain([name.clone()]).collect();
        if !modules.contains_key(&child) {
            break;
        }
        (base, rest) = (child, &rest[1..]);
    }
    Some((base, rest.first().cloned()))
}

/// Every module with the modules whose files its code needs; tests need what they like.
fn needs() -> BTreeMap<Module, BTreeSet<Module>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut modules, mut tests) = (BTreeMap::new(), BTreeSet::new());
    for file in files {
        let inside = file.strip_prefix(&root).expect("below the root").with_extension("");
        let mut module: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        module.pop_if(|name| name == "mod");
        let text = fs::read_to_string(&file).expect("readable");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let name = pair[1].trim_end_matches(';').split(' ').next_back().unwrap_or("");
            tests.insert(module.iter().cloned().chain([name.to_owned()]).collect::<Module>());
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("").to_owned();
        if !["lib", "main"].contains(&module.join("").as_str()) {
            modules.insert(module, code);
        }
    }
    modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    let named: BTreeMap<&Module, _> = modules.iter().map(|(module, code)| (module, named_in(code))).collect();
    // `pub use log::Log` in a folder's mod.rs: who names the folder's `Log` needs the file.
    let mut handed_on: BTreeMap<(Module, String), Module> = BTreeMap::new();
    for (module, (_, paths)) in &named {
        for path in paths {
            if let Some((to, Some(item))) = resolve(module, path, &modules)
                && to != **module
            {
                handed_on.insert(((*module).clone(), item), to);
            }
        }
    }
    let mut needs = BTreeMap::<Module, BTreeSet<Module>>::new();
    for (module, (paths, _)) in &named {
        for path in paths {
            let Some((mut to, item)) = resolve(module, path, &modules) else { continue };
            while let Some(next) = item.as_ref().and_then(|item| handed_on.get(&(to.clone(), item.clone()))) {
                to = next.clone();
            }
            if to != **module && modules.contains_key(&to) {
                needs.entry((*module).clone()).or_default().insert(to);
            }
        }
    }
    needs
}

#[test]
fn no_files_need_each_other() {
    let needs = needs();
    let reached = |from: &Module| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for to in needs.get(module).into_iter().flatten() {
                if reached.insert(to) {
                    next.push(to);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&Module, _> = needs.keys().map(|module| (module, reached(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &all {
        let back = |to: &&&Module| all.get(**to).is_some_and(|reached| reached.contains(module));
        let circle: BTreeSet<String> = reached.iter().filter(back).map(|to| to.join("::")).collect();
        if !circle.is_empty() {
            circles.insert(circle.into_iter().collect::<Vec<_>>());
        }
    }
    circles.retain(|circle| {
        let room = circle[0].split("::").next().unwrap_or("");
        !WITH_CIRCLES.contains(&room) && circle[0] != "cli::consume"
    });
    assert!(circles.is_empty(), "these files need each other: {circles:#?}");
}
