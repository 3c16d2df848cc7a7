//! The rules of the house that no compiler checks: which crate may import which, and how long, named and opened a file is.
//!
//! Ground rules: every rule is a function from sources to complaints, so that a test can show it something wrong and see it
//! complain; a rule that cannot fail is none. The last tests hold the whole tree against all of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 800;
const FILE_LINES_MEDIAN_MAX: usize = 170;
const FUNCTION_LINES_MAX: usize = 70;
const FOLDER_DEPTH_MAX: usize = 16;

/// The crates and what each may import: `core` decides and imports nothing; `lab` drives the product from outside.
const EDGES: [(&str, &[&str]); 12] = [
    ("core", &[]),
    ("qmp", &[]),
    ("transfer", &["core"]),
    ("api", &["core"]),
    ("store", &["core"]),
    ("daemon", &["core"]),
    ("controller", &["api", "core", "daemon", "store"]),
    ("agent", &["api", "core", "daemon", "qmp", "transfer"]),
    ("lab", &["api"]),
    ("guest", &[]),
    ("cli", &["agent", "api", "controller", "lab"]),
    ("sim", &["core"]),
];

const BAD_STEMS: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
const BAD_SUFFIXES: [&str; 3] = ["Manager", "Helper", "Util"];

struct Source {
    path: String,
    text: String,
}

// ---------------------------------------------------------------- rules

/// Names of our crates among the dependencies of a manifest, dev and build dependencies too.
fn imports(manifest: &str) -> Vec<String> {
    let mut among_dependencies = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            among_dependencies = section.trim_end_matches(']').ends_with("dependencies");
            names.extend(section.split_once("dependencies.whimbrel-").map(|(_, name)| identifier(name)));
        } else if among_dependencies && let Some(name) = line.strip_prefix("whimbrel-") {
            names.push(identifier(name));
        }
    }
    names.sort();
    names.dedup();
    names
}

fn edges(crates: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = EDGES.into();
    let mut complaints = Vec::new();
    for (name, found) in crates {
        match table.get(name.as_str()) {
            None => complaints.push(format!("crate {name} is not in the table of this test")),
            Some(allowed) if found == allowed => (),
            Some(allowed) => complaints.push(format!("crate {name} imports {found:?}, the table says {allowed:?}")),
        }
    }
    let absent = table.keys().filter(|name| !crates.contains_key(**name));
    complaints.extend(absent.map(|name| format!("crate {name} of the table does not exist")));
    complaints
}

fn lengths(sources: &[Source]) -> Vec<String> {
    let mut lengths: Vec<usize> = sources.iter().map(|source| source.text.lines().count()).collect();
    let long = sources.iter().zip(&lengths).filter(|(_, lines)| **lines > FILE_LINES_MAX);
    let mut complaints: Vec<String> =
        long.map(|(source, lines)| format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path)).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    if median >= FILE_LINES_MEDIAN_MAX {
        complaints.push(format!("the median file has {median} lines, it must be under {FILE_LINES_MEDIAN_MAX}"));
    }
    complaints
}

fn functions(source: &Source) -> Vec<String> {
    let code = without_literals(&source.text);
    let mut complaints = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name = identifier(&code[at + 3..]);
        let is_word = !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let Some(lines) = body_lines(&code[at..]) else { continue };
        if is_word && !name.is_empty() && lines > FUNCTION_LINES_MAX {
            let path = &source.path;
            complaints.push(format!("{path}: function {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    complaints
}

/// Lines from a function's name to the end of its body; nothing for a declaration without a body.
fn body_lines(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut body = false;
    let mut lines = 1;
    for character in code.chars() {
        match character {
            '\n' => lines += 1,
            '{' if depth == 0 => (body, depth) = (true, 1),
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.checked_sub(1)?,
            ';' if depth == 0 => return None,
            _ => (),
        }
        if body && depth == 0 {
            return Some(lines);
        }
    }
    None
}

fn opening(source: &Source) -> Vec<String> {
    let good = source.text.starts_with("//! ") && source.text.lines().next().is_some_and(|line| line.len() > 12);
    if good { Vec::new() } else { vec![format!("{}: does not open with a `//!` that says why it exists", source.path)] }
}

fn names(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let parts = source.path.trim_end_matches(".rs").split('/');
    complaints.extend(parts.filter(|part| BAD_STEMS.contains(part)).map(|part| format!("{}: '{part}'", source.path)));
    let code = without_literals(&source.text);
    for keyword in ["struct ", "enum ", "trait ", "type "] {
        for (at, _) in code.match_indices(keyword) {
            let name = identifier(&code[at + keyword.len()..]);
            if BAD_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                complaints.push(format!("{}: '{name}' says what it is not, name the concept", source.path));
            }
        }
    }
    complaints
}

/// References that mean nothing to who reads only this repository.
fn references(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let (ticket, place) = (concat!("issue", " #"), concat!("/wo", "rk/"));
    for (index, line) in source.text.lines().enumerate() {
        let absolute = |at: usize| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || "_-.}/)".contains(before))
        };
        let found = line.to_lowercase().contains(ticket) || line.match_indices(place).any(|(at, _)| absolute(at));
        if found {
            complaints.push(format!("{}:{}: refers to something outside: {line}", source.path, index + 1));
        }
    }
    complaints
}

// ---------------------------------------------------------------- reading

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

/// The code with comments and literals blanked out, line for line, so that braces and words in them do not count.
fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_bytes(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    code
}

/// Length of the comment or literal that `rest` begins with, zero if it begins with neither.
fn literal_bytes(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('"') {
        return quoted_bytes(rest, '"');
    }
    if rest.starts_with('r') && !in_word {
        let fence = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        if rest[1 + fence..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(fence));
            let from = fence + 2;
            return rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len());
        }
    }
    // A quote that is closed after one character, or an escape, is a character; all others are lifetimes.
    let mut characters = rest.chars();
    if characters.next() == Some('\'') {
        let escaped = rest[1..].starts_with('\\');
        characters.next();
        if escaped || characters.next() == Some('\'') {
            return quoted_bytes(rest, '\'');
        }
    }
    0
}

fn quoted_bytes(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => (),
        }
    }
    rest.len()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Files below a folder with one of the extensions (`.rs`) or names; what is built or fetched is not ours.
fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), endings, FOLDER_DEPTH_MAX, &mut found);
    assert!(!found.is_empty(), "no file below {folder}");
    found
}

fn collect(folder: &Path, endings: &[&str], depth: usize, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if [".git", ".deps", "target"].contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() && depth > 0 {
            collect(&path, endings, depth - 1, found);
        } else if path.is_file()
            && endings.iter().any(|ending| name == *ending || ending.starts_with('.') && name.ends_with(ending))
        {
            let text = fs::read_to_string(&path).expect("text");
            let path = path.strip_prefix(root()).expect("below the workspace").display().to_string();
            found.push(Source { path, text });
        }
    }
}

fn tidy(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---------------------------------------------------------------- the tree

#[test]
fn crates_import_what_the_table_says() {
    let mut crates = BTreeMap::new();
    for manifest in files("crates", &["Cargo.toml"]) {
        let folder = Path::new(&manifest.path).parent().and_then(Path::file_name).expect("a folder");
        crates.insert(folder.to_string_lossy().into_owned(), imports(&manifest.text));
    }
    tidy(edges(&crates));
}

#[test]
fn files_and_functions_are_short_well_named_and_say_why_they_exist() {
    let sources = files("crates", &[".rs"]);
    let mut complaints = lengths(&sources);
    for source in &sources {
        complaints.extend([functions(source), opening(source), names(source)].concat());
    }
    tidy(complaints);
}

#[test]
fn nothing_refers_to_what_a_reader_does_not_have() {
    let endings = [".rs", ".toml", ".md", ".sh", ".json", ".sql", ".html", ".css", ".js", "x", "run", "deps", "init"];
    tidy(files(".", &endings).iter().flat_map(references).collect());
}

// ---------------------------------------------------------------- the rules themselves

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

/// The rule complains of `bad` and not of `good`.
fn check(rule: fn(&Source) -> Vec<String>, path: &str, good: &str, bad: &str) {
    assert_eq!(rule(&source(path, good)), [""; 0], "{good}");
    assert_eq!(rule(&source(path, bad)).len(), 1, "{bad}");
}

#[test]
fn an_import_too_many_and_one_too_few_are_seen() {
    let manifest = "[package]\nname = \"whimbrel-x\"\n[dependencies]\nwhimbrel-core.workspace = true\nserde = \"1\"\n\
                    [dev-dependencies]\nwhimbrel-qmp = { path = \"../qmp\" }\n[dependencies.whimbrel-store]\npath = \"\"\n";
    assert_eq!(imports(manifest), ["core", "qmp", "store"]);

    let mut crates: BTreeMap<String, Vec<String>> = EDGES
        .iter()
        .map(|(name, allowed)| (name.to_string(), allowed.iter().map(|to| to.to_string()).collect()))
        .collect();
    assert_eq!(edges(&crates), [""; 0]);
    crates.insert("core".into(), vec!["store".into()]);
    assert_eq!(edges(&crates), ["crate core imports [\"store\"], the table says []"]);
    crates.insert("core".into(), Vec::new());
    crates.insert("sim".into(), Vec::new());
    crates.insert("extra".into(), Vec::new());
    crates.remove("qmp");
    assert_eq!(edges(&crates).len(), 3);
}

#[test]
fn long_files_and_a_long_median_are_seen() {
    let of = |lines: usize| source("a.rs", &"x\n".repeat(lines));
    assert_eq!(lengths(&[of(FILE_LINES_MAX), of(10), of(10)]), [""; 0]);
    assert_eq!(lengths(&[of(FILE_LINES_MAX + 1), of(10), of(10)]).len(), 1);
    assert_eq!(lengths(&[of(10), of(FILE_LINES_MEDIAN_MAX), of(300)]).len(), 1);
}

#[test]
fn a_long_function_is_seen_through_literals_and_not_without_a_body() {
    // Braces that are no code: each would end or stretch the body if it were counted.
    let tricks = "let a = \"}\\\"}\"; let b = '}'; let c = r#\"}\"}\"#; // }\n/* } */ let d: &'static str = \"{\";\n";
    let of = |lines: usize| format!("fn f<'a>(x: [u8; 3]) -> u8 {{\n{tricks}{}}}\n", "x;\n".repeat(lines - 4));
    check(functions, "a.rs", &of(FUNCTION_LINES_MAX), &of(FUNCTION_LINES_MAX + 1));
    let declared = format!("trait T {{ fn f(&self);\n{}}}", "// x\n".repeat(99));
    check(functions, "a.rs", &declared, &of(FUNCTION_LINES_MAX + 30));
}

#[test]
fn a_file_that_does_not_say_why_is_seen() {
    check(opening, "a.rs", "//! Why this exists.\nfn f() {}\n", "use std::fs;\n//! Why this exists.\n");
    check(opening, "a.rs", "//! Why this exists.\n", "//! x\n");
}

#[test]
fn names_without_a_concept_are_seen() {
    check(names, "a/disk.rs", "struct Disk; // struct DiskManager\n", "struct DiskManager;\n");
    check(names, "a/disk.rs", "let x = \"enum FooHelper\";", "pub enum FooHelper {}\n");
    for path in ["a/util.rs", "a/common/mod.rs", "helper.rs"] {
        assert_eq!(names(&source(path, "")).len(), 1, "{path}");
    }
}

#[test]
fn references_to_the_outside_are_seen() {
    let (ticket, place) = (concat!("see Issue", " #7"), concat!("cd /wo", "rk/main"));
    check(references, "a.rs", "an issue number 7", ticket);
    check(references, "a.rs", concat!("\"{folder}/wo", "rk/x\" and target/wo", "rk/y"), place);
    check(references, "a.rs", "", concat!("\"/wo", "rk/main\""));
}
