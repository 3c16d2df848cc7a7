//! The loop with looks, interrupts and answers that the test makes.

use whimbrel_api::{agent::Verification, id::Epoch, native::MigrationStatus};

use super::*;

const TIME_MAX: Duration = Duration::from_secs(10);

pub(super) fn migration(status: MigrationStatus) -> Migration {
    Migration {
        id: "01890000-0000-7000-8000-000000000001".parse().unwrap(),
        server: "01890000-0000-7000-8000-000000000002".parse().unwrap(),
        server_name: "s1".to_owned(),
        source: "h1".parse().unwrap(),
        target: "h2".parse().unwrap(),
        status,
        epoch: Epoch(2),
        step: "round 0 of disks".to_owned(),
        progress: None,
        receipt: None,
        verification: Verification::None,
        failure: None,
        guest_at: None,
        cleaned_up: None,
        left_behind: None,
        created_us: 0,
        finished_us: None,
    }
}

/// Tells what is done; answers are read from `answers`, as they are from a terminal.
struct Recorded {
    did: mpsc::UnboundedSender<String>,
    answers: Option<std::io::PipeReader>,
    tell: mpsc::Sender<News>,
}

impl Recorded {
    fn note(&self, what: impl Into<String>) {
        self.did.send(what.into()).unwrap();
    }
}

impl Hands for Recorded {
    fn show(&mut self, migration: &Migration) -> Result<()> {
        self.note(format!("show {:?}", migration.status));
        Ok(())
    }

    fn say(&mut self, words: &str) {
        self.note(format!("say {words}"));
    }

    fn read_answer(&mut self) {
        self.note("read");
        read_answer(self.answers.take().unwrap(), self.tell.clone());
    }

    fn cancel(&mut self) {
        self.note("cancel");
    }
}

struct Followed {
    tell: mpsc::Sender<News>,
    did: mpsc::UnboundedReceiver<String>,
    end: tokio::task::JoinHandle<End>,
    typed: std::io::PipeWriter,
}

impl Followed {
    fn begin() -> Self {
        let (tell, mut news) = mpsc::channel(NEWS_MAX);
        let (did, seen) = mpsc::unbounded_channel();
        let (answers, typed) = std::io::pipe().unwrap();
        let mut hands = Recorded { did, answers: Some(answers), tell: tell.clone() };
        let mut following = Following::new(migration(MigrationStatus::Running), true, Instant::now());
        let end = tokio::spawn(async move { run(&mut following, &mut news, &mut hands).await.unwrap() });
        Followed { tell, did: seen, end, typed }
    }

    async fn hear(&self, news: News) {
        self.tell.send(news).await.unwrap();
    }

    async fn look(&self, status: MigrationStatus) {
        self.hear(News::Looked(Ok(Box::new(migration(status))))).await;
    }

    /// Waits until that is done; what else is done before does not matter.
    async fn does(&mut self, what: &str) {
        let waited = tokio::time::timeout(TIME_MAX, async {
            while let Some(did) = self.did.recv().await {
                if did.starts_with(what) {
                    return;
                }
            }
            panic!("it ended without: {what}");
        });
        waited.await.unwrap_or_else(|_| panic!("waited for: {what}"));
    }

    async fn end(self) -> End {
        tokio::time::timeout(TIME_MAX, self.end).await.expect("it hangs").unwrap()
    }
}

#[tokio::test]
async fn the_looks_go_on_while_the_question_is_open_and_a_late_yes_cancels() {
    use std::io::Write;
    let mut followed = Followed::begin();
    followed.does("show Running").await;
    followed.hear(News::Interrupted).await;
    followed.does("read").await;
    followed.look(MigrationStatus::Running).await;
    followed.does("show Running").await;
    followed.typed.write_all(b"y\n").unwrap();
    followed.does("cancel").await;
    followed.look(MigrationStatus::Cancelled).await;
    assert_eq!(followed.end().await, End::Over);
}

#[tokio::test]
async fn the_move_may_end_before_the_answer() {
    let mut followed = Followed::begin();
    followed.hear(News::Interrupted).await;
    followed.does("read").await;
    followed.look(MigrationStatus::Completed).await;
    followed.does("say the move ended before").await;
    assert_eq!(followed.end().await, End::Over);
}

/// As after a second Ctrl-C: the line that is being read never comes.
#[test]
fn a_line_that_never_comes_does_not_hold_the_process() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let typed = runtime.block_on(async {
        let mut followed = Followed::begin();
        followed.hear(News::Interrupted).await;
        followed.does("read").await;
        followed.hear(News::Interrupted).await;
        followed.does("cancel").await;
        followed.look(MigrationStatus::Cancelled).await;
        let typed = followed.typed.try_clone().unwrap();
        assert_eq!(followed.end().await, End::Over);
        typed
    });
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(runtime);
        let _ = done.send(());
    });
    assert!(ended.recv_timeout(TIME_MAX).is_ok(), "the runtime waits for the line");
    drop(typed);
}
