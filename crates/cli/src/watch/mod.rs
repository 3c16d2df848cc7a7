//! Follows a migration until it ends.
//!
//! ```text
//! looks at the controller --+
//! Ctrl-C -------------------+-> news -> Following -> acts: show, say, read an answer, cancel, end
//! a line from the terminal -+
//! ```
//!
//! Ground rules: the server's word is the truth, this only shows it; Ctrl-C asks before it cancels, and a cancel is waited
//! for until the guest is known to run where it was. Whatever is waited for, the next news is heard: nothing here blocks.
mod ending;
mod following;
mod screen;

use std::{
    io::{BufRead, BufReader, IsTerminal, Read},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use whimbrel_api::{
    client::ControllerClient,
    failure::{Failure, FailureCode},
    id::MigrationId,
    native::Migration,
};

use following::{Act, End, Following, News};
use screen::Screen;

const LOOK_EVERY: Duration = Duration::from_millis(40);
/// A controller that takes a call and never answers it is away too.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// More is not in the air: a look, an answer, a few interrupts.
const NEWS_MAX: usize = 16;

pub async fn follow(client: &ControllerClient, first: Migration, json: bool) -> Result<ExitCode> {
    if first.status.is_end() {
        return ending::finish(&first, json);
    }
    let (tell, mut news) = mpsc::channel(NEWS_MAX);
    let interrupts = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    tokio::spawn(hear_interrupts(interrupts, tell.clone()));
    tokio::spawn(look_on(client.clone(), first.id, tell.clone()));
    let mut hands = Terminal { screen: Screen::new(json), client: client.clone(), id: first.id, tell };
    let mut following = Following::new(first, std::io::stdin().is_terminal(), Instant::now());
    let end = run(&mut following, &mut news, &mut hands).await?;
    hands.screen.end();
    match end {
        End::Over => ending::finish(&following.migration, json),
        End::Left => Ok(ExitCode::FAILURE),
        End::Lost(failure) => Err(failure.into()),
    }
}

/// What acts have to be able to do; none of it may wait.
trait Hands {
    fn show(&mut self, migration: &Migration) -> Result<()>;
    fn say(&mut self, words: &str);
    fn read_answer(&mut self);
    fn cancel(&mut self);
}

async fn run(following: &mut Following, news: &mut mpsc::Receiver<News>, hands: &mut impl Hands) -> Result<End> {
    hands.show(&following.migration)?;
    while let Some(heard) = news.recv().await {
        for act in following.step(Instant::now(), heard) {
            match act {
                Act::Show => hands.show(&following.migration)?,
                Act::Say(words) => hands.say(&words),
                Act::ReadAnswer => hands.read_answer(),
                Act::Cancel => hands.cancel(),
                Act::End(end) => return Ok(end),
            }
        }
    }
    Err(anyhow::anyhow!("nobody looks at the move any more (hint: see `whimbrel migration list`)"))
}

struct Terminal {
    screen: Screen,
    client: ControllerClient,
    id: MigrationId,
    tell: mpsc::Sender<News>,
}

impl Hands for Terminal {
    fn show(&mut self, migration: &Migration) -> Result<()> {
        self.screen.show(migration)
    }

    fn say(&mut self, words: &str) {
        self.screen.say(words);
    }

    fn read_answer(&mut self) {
        read_answer(std::io::stdin(), self.tell.clone());
    }

    fn cancel(&mut self) {
        let (client, id, tell) = (self.client.clone(), self.id, self.tell.clone());
        tokio::spawn(async move {
            let answer = client.cancel_migration(id).await.map(drop);
            // Nobody listens any more when the move has ended.
            let _ = tell.send(News::CancelAnswered(answer)).await;
        });
    }
}

async fn hear_interrupts(mut interrupts: tokio::signal::unix::Signal, tell: mpsc::Sender<News>) {
    while interrupts.recv().await.is_some() && tell.send(News::Interrupted).await.is_ok() {}
}

async fn look_on(client: ControllerClient, id: MigrationId, tell: mpsc::Sender<News>) {
    loop {
        let looked = tokio::time::timeout(LOOK_TIME_MAX, client.migration(id)).await.unwrap_or_else(|_| {
            let detail =
                format!("the controller at {} did not answer within {} s", client.url(), LOOK_TIME_MAX.as_secs());
            Err(Failure::new(FailureCode::HostDown, detail))
        });
        if tell.send(News::Looked(looked.map(Box::new))).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// On a thread that nobody waits for: a line may never come, and the process must be able to end all the same.
fn read_answer(from: impl Read + Send + 'static, tell: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(from).read_line(&mut line);
        let answer = read.ok().filter(|bytes| *bytes > 0).map(|_| line);
        let _ = tell.blocking_send(News::Answered(answer));
    });
}

#[cfg(test)]
mod tests;
