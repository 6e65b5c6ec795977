//! Pages that are made from the code are as the code makes them.

use std::path::Path;

#[test]
fn the_configuration_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let made = raftsman::config::documentation::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/configuration.md is out of date: run UPDATE_DOCS=1 cargo test --test documentation"
    );
}
