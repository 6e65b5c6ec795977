//! Every dependency's licence is on the list in deny.toml, and docs/third-party.md names what is in the binary.
//!
//! `UPDATE_DOCS=1 cargo test --test licences` writes the page anew.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(root());
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The strings of `allow = [...]` in deny.toml.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with what is allowed. The older `A/B` is `A OR B`, and `MPL-2.0+` allows
/// 2.0 itself.
fn can_be_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let words = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = words.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any_of(words, allowed);
        return words.next() == Some(")") && met;
    }
    let mut name = words.next().unwrap_or_default().trim_end_matches('+').to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let allowed =
        BTreeSet::from(["MIT", "Zlib", "MPL-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned));
    for met in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Zlib", "MPL-2.0+"] {
        assert!(can_be_met(met, &allowed), "{met}");
    }
    assert!(can_be_met("Apache-2.0 WITH LLVM-exception OR GPL-3.0", &allowed));
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0", "MIT)", "(MIT AND Zlib"] {
        assert!(!can_be_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_dependencys_licence_is_on_the_list() {
    let (metadata, allowed) = (metadata(), allowed());
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    let wrong: Vec<_> = packages
        .iter()
        .filter(|package| !can_be_met(text(package, "license"), &allowed))
        .map(|package| format!("{}: {}", text(package, "name"), text(package, "license")))
        .collect();
    assert!(wrong.is_empty(), "not allowed by deny.toml:\n{}", wrong.join("\n"));
}

/// Packages that are in the binary: what its dependencies need to run, not what builds or tests them.
fn in_the_binary(metadata: &Value) -> BTreeMap<String, &Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (text(node, "id"), node)).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: BTreeMap<_, _> = packages.iter().map(|package| (text(package, "id"), package)).collect();
    let root = text(&metadata["resolve"], "root");
    let (mut found, mut left) = (BTreeMap::new(), vec![root]);
    while let Some(id) = left.pop() {
        let package = packages[id];
        let is_macro = package["targets"][0]["kind"][0] == "proc-macro";
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        if is_macro || id != root && found.insert(name, package).is_some() {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                left.push(text(dependency, "pkg"));
            }
        }
    }
    found
}

#[test]
fn the_page_of_third_parties_is_up_to_date() {
    let metadata = metadata();
    let mut page = "# Third parties\n\nWhat is linked into the binary `raftsman` (itself Apache-2.0), by `cargo metadata`; \
        `UPDATE_DOCS=1 cargo test\n--test licences` writes this page. The sources of packages under the MPL are where \
        their last column says.\n\n| package | version | licence | source |\n|---|---|---|---|\n"
        .to_owned();
    for package in in_the_binary(&metadata).values() {
        let [name, version, licence, source] =
            ["name", "version", "license", "repository"].map(|key| text(package, key));
        page += &format!("| {name} | {version} | {licence} | {source} |\n");
    }
    let path = root().join("docs/third-party.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/third-party.md is not up to date: UPDATE_DOCS=1 cargo test --test licences");
}
