//! Bad input: a clear error that names the object and the remedy, and nothing happened.

use whimbrel_lab::Lab;

use crate::harness::{options, turn, up};

/// The command fails, and says all of these.
async fn check(lab: &Lab, words: &[&str], says: &[&str]) {
    let output = lab.cli(words).await.unwrap();
    assert!(!output.ok, "{words:?} worked: {}", output.stdout);
    for wanted in says {
        assert!(output.stderr.contains(wanted), "{words:?} does not say '{wanted}': {}", output.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name() {
    let _turn = turn();
    let lab = up(options(2)).await;
    let create = |name: &'static str, flavor: &'static str, host: &'static str| {
        ["server", "create", name, "--flavor", flavor, "--image", "guest", "--host", host]
    };
    check(&lab, &["move", "nobody", "h2"], &["nobody", "hint:"]).await;
    check(&lab, &create("a", "nothing", "h1"), &["nothing", "hint:"]).await;
    check(&lab, &["server", "create", "a", "--flavor", "med", "--image", "none", "--host", "h1"], &["none", "hint:"])
        .await;
    check(&lab, &create("a", "med", "h9"), &["h9", "hint:"]).await;

    let text = lab.site().dir.join("no-image");
    std::fs::write(&text, "this is no disk image, it only looks for trouble\n").unwrap();
    check(&lab, &["image", "create", "text", "--file", text.to_str().unwrap()], &["hint:"]).await;

    // Two that fill a host each: one cannot follow the other.
    let huge = (memory_mb() * 3 / 5).to_string();
    assert!(lab.cli(&["flavor", "create", "huge", "--ram", &huge, "--disk", "10"]).await.unwrap().ok);
    assert!(lab.cli(&["flavor", "create", "vast", "--ram", "256", "--disk", "100000"]).await.unwrap().ok);
    for (name, host) in [("one", "h1"), ("two", "h2")] {
        let output = lab.cli(&create(name, "huge", host)).await.unwrap();
        assert!(output.ok, "{}", output.stderr);
    }
    crate::harness::guest_runs_at(&lab, "one", "h1").await;
    crate::harness::guest_runs_at(&lab, "two", "h2").await;
    check(&lab, &["move", "one", "h2"], &["RAM", "MiB", "hint:"]).await;
    check(&lab, &["move", "one", "h1"], &["h1", "hint:"]).await;
    check(&lab, &["move", "one", "h9"], &["h9", "hint:"]).await;
    check(&lab, &create("three", "vast", "h1"), &["MiB", "hint:"]).await;

    lab.kill_agent("h2").unwrap();
    check(&lab, &["move", "one", "h2"], &["h2", "hint:"]).await;
    crate::harness::guest_runs_at(&lab, "one", "h1").await;
    lab.down().unwrap();
}

fn memory_mb() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
