//! A hint that names a command which does not exist is worse than none: every command that a source or the README names in
//! backquotes is held against the command line as it is.
//!
//! Ground rule: a word after the last known command is an argument and may be anything; one that stands where a command or
//! an option is expected must be one, unless it is a placeholder (`{object}`, `WORD`).

use std::{fs, path::Path};

use clap::{Command, CommandFactory};

use crate::args::Args;

const QUOTE: char = '\u{60}';
const FOLDER_DEPTH_MAX: usize = 8;

/// The commands in backquotes, without the program's name.
fn commands(text: &str) -> Vec<&str> {
    let opening = format!("{QUOTE}whimbrel ");
    let named = text.match_indices(&opening).map(|(at, found)| &text[at + found.len()..]);
    named.filter_map(|rest| rest.split_once([QUOTE, '\n']).map(|(command, _)| command)).collect()
}

/// What is wrong with one, if anything is.
fn complaint(program: &Command, line: &str) -> Option<String> {
    let mut command = program;
    for word in line.split_whitespace() {
        let known = |name: &str| command.get_arguments().any(|argument| argument.get_long() == Some(name));
        if let Some(option) = word.strip_prefix("--") {
            if !known(option) {
                return Some(format!("{QUOTE}whimbrel {line}{QUOTE}: {} has no --{option}", command.get_name()));
            }
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
        } else if !word.starts_with(|first: char| first.is_ascii_lowercase()) {
            return None;
        } else if command.has_subcommands() {
            return Some(format!("{QUOTE}whimbrel {line}{QUOTE}: {} has no {word}", command.get_name()));
        }
    }
    None
}

fn complaints(text: &str) -> Vec<String> {
    let mut program = Args::command();
    // With the options that every command has.
    program.build();
    commands(text).into_iter().filter_map(|line| complaint(&program, line)).collect()
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
            let complaints = complaints(&fs::read_to_string(&path).unwrap());
            found.extend(complaints.into_iter().map(|complaint| format!("{}: {complaint}", path.display())));
        }
    }
}

#[test]
fn every_command_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["crates", "docs"] {
        collect(&root.join(folder), FOLDER_DEPTH_MAX, &mut found);
    }
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        found.extend(complaints(&fs::read_to_string(root.join(page)).unwrap()));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_command_or_an_option_that_is_not_there_is_seen() {
    let check = |line: &str, good: bool| {
        let text = format!("see {QUOTE}whimbrel {line}{QUOTE}, please");
        assert_eq!(complaints(&text).is_empty(), good, "{line}");
    };
    check("host token h1", true);
    check("host add h1", false);
    check("host", true);
    check("move --plan", true);
    check("move guest h2 --plan", true);
    check("move --now", false);
    check("migration show {migration}", true);
    check("{object} list", true);
    check("migrate", false);
}
