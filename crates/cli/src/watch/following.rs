//! What each piece of news means to who follows a move: a look, an answer, a Ctrl-C.
//!
//! ```text
//! NotAsked --Ctrl-C--> Open --yes, or Ctrl-C again--> Cancelled --Ctrl-C--> leaves; the move goes on
//!    ^------no--------/
//! ```
//!
//! Ground rules: pure, [`super`] acts on what it says. The looks go on whatever is being asked, so the move may end while a
//! question is open. A controller that does not answer is waited for, but not for ever.

use std::time::{Duration, Instant};

use whimbrel_api::{
    failure::{Failure, FailureCode},
    native::Migration,
};

/// The controller may restart meanwhile: the move goes on without it.
const CONTROLLER_AWAY_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) enum News {
    /// What the controller said of the move, or why it said nothing.
    Looked(Result<Box<Migration>, Failure>),
    /// What it said to the cancel.
    CancelAnswered(Result<(), Failure>),
    /// Ctrl-C.
    Interrupted,
    /// A line from the terminal; `None` at its end.
    Answered(Option<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// The move, as it is now.
    Show,
    Say(String),
    /// Wait for a line from the terminal, and for nothing else.
    ReadAnswer,
    Cancel,
    End(End),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// The move is over.
    Over,
    /// The operator does not want to look any more.
    Left,
    /// Nobody says any more what becomes of it.
    Lost(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    NotAsked,
    Open,
    Cancelled,
}

pub(super) struct Following {
    pub(super) migration: Migration,
    /// There is somebody to ask.
    terminal: bool,
    question: Question,
    /// The last answer of the controller.
    seen: Instant,
    away: bool,
}

impl Following {
    pub(super) fn new(migration: Migration, terminal: bool, now: Instant) -> Self {
        Following { migration, terminal, question: Question::NotAsked, seen: now, away: false }
    }

    pub(super) fn step(&mut self, now: Instant, news: News) -> Vec<Act> {
        match news {
            News::Looked(Ok(migration)) => self.looked(now, *migration),
            News::Looked(Err(failure)) => self.not_answered(now, &failure),
            News::CancelAnswered(Ok(())) => vec![],
            // Too late, or the controller is away: the next look says what is so.
            News::CancelAnswered(Err(failure)) => vec![Act::Say(failure.to_string())],
            News::Interrupted => self.interrupted(),
            News::Answered(line) => self.answered(line.as_deref()),
        }
    }

    fn looked(&mut self, now: Instant, migration: Migration) -> Vec<Act> {
        self.seen = now;
        self.migration = migration;
        let back = std::mem::take(&mut self.away).then(|| Act::Say("the controller answers again".to_owned()));
        let mut acts: Vec<Act> = back.into_iter().collect();
        if !self.migration.status.is_end() {
            acts.push(Act::Show);
            return acts;
        }
        if self.question == Question::Open {
            acts.push(Act::Say("the move ended before you answered; nothing was cancelled".to_owned()));
        }
        acts.push(Act::End(End::Over));
        acts
    }

    fn not_answered(&mut self, now: Instant, failure: &Failure) -> Vec<Act> {
        if matches!(failure.code, FailureCode::NotFound | FailureCode::Forbidden) {
            return vec![Act::End(End::Lost(failure.clone()))];
        }
        if now - self.seen > CONTROLLER_AWAY_MAX {
            return vec![Act::End(End::Lost(self.lost(failure)))];
        }
        match std::mem::replace(&mut self.away, true) {
            true => vec![],
            false => vec![Act::Say(format!(
                "the controller does not answer; the move goes on without it. Waiting up to {} s for it",
                CONTROLLER_AWAY_MAX.as_secs()
            ))],
        }
    }

    fn lost(&self, failure: &Failure) -> Failure {
        let Migration { id, server_name, source, target, .. } = &self.migration;
        let detail = format!(
            "the controller has not answered for {} s ({}); the move of {server_name} from {source} to {target} goes on at \
             the hosts without it",
            CONTROLLER_AWAY_MAX.as_secs(),
            failure.detail
        );
        Failure::new(failure.code, detail).hint(format!(
            "when the controller is back: `whimbrel migration show {id}`, or `whimbrel migration watch {id}`"
        ))
    }

    fn interrupted(&mut self) -> Vec<Act> {
        match (self.question, self.terminal) {
            (Question::NotAsked, true) => {
                self.question = Question::Open;
                let asked = format!(
                    "cancel the move of {}? It goes on meanwhile. [y/N, Ctrl-C for yes]",
                    self.migration.server_name
                );
                vec![Act::Say(asked), Act::ReadAnswer]
            }
            (Question::NotAsked, false) | (Question::Open, true | false) => self.cancel(),
            (Question::Cancelled, true | false) => {
                let id = self.migration.id;
                let left = format!("not looking any more; the move goes on: see `whimbrel migration show {id}`");
                vec![Act::Say(left), Act::End(End::Left)]
            }
        }
    }

    fn answered(&mut self, line: Option<&str>) -> Vec<Act> {
        match self.question {
            Question::Open if matches!(line.map(str::trim), Some("y" | "Y" | "yes")) => self.cancel(),
            Question::Open => {
                self.question = Question::NotAsked;
                vec![Act::Say("the move goes on".to_owned())]
            }
            // To a question that Ctrl-C has answered already.
            Question::NotAsked | Question::Cancelled => vec![],
        }
    }

    fn cancel(&mut self) -> Vec<Act> {
        self.question = Question::Cancelled;
        vec![
            Act::Say("cancelling; the guest stays where it is. Ctrl-C again leaves it to itself".to_owned()),
            Act::Cancel,
        ]
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_api::native::MigrationStatus;

    use super::{super::tests::migration, *};

    struct Told {
        following: Following,
        now: Instant,
    }

    impl Told {
        fn new(terminal: bool) -> Self {
            let now = Instant::now();
            Told { following: Following::new(migration(MigrationStatus::Running), terminal, now), now }
        }

        fn hear(&mut self, news: News) -> Vec<Act> {
            self.following.step(self.now, news)
        }

        fn look(&mut self, status: MigrationStatus) -> Vec<Act> {
            self.hear(News::Looked(Ok(Box::new(migration(status)))))
        }
    }

    fn answer(line: &str) -> News {
        News::Answered(Some(line.to_owned()))
    }

    fn away() -> News {
        News::Looked(Err(Failure::new(FailureCode::HostDown, "cannot reach the controller")))
    }

    #[test]
    fn the_move_is_shown_and_may_end_while_the_question_is_open() {
        let mut told = Told::new(true);
        assert!(told.hear(News::Interrupted).ends_with(&[Act::ReadAnswer]));
        assert_eq!(told.look(MigrationStatus::Running), [Act::Show]);
        let end = told.look(MigrationStatus::Completed);
        assert!(
            matches!(&end[..], [Act::Say(words), Act::End(End::Over)] if words.contains("ended before")),
            "{end:?}"
        );
    }

    #[test]
    fn only_a_yes_or_a_second_interrupt_cancels() {
        for (news, cancels) in [
            (answer("y\n"), true),
            (answer("yes\n"), true),
            (News::Interrupted, true),
            (answer("n\n"), false),
            (answer("\n"), false),
            (News::Answered(None), false),
        ] {
            let mut told = Told::new(true);
            told.hear(News::Interrupted);
            let words = format!("{news:?}");
            assert_eq!(told.hear(news).contains(&Act::Cancel), cancels, "{words}");
            let next = told.hear(News::Interrupted);
            match cancels {
                true => assert!(next.ends_with(&[Act::End(End::Left)]), "{words}: {next:?}"),
                false => assert!(next.ends_with(&[Act::ReadAnswer]), "{words}: {next:?}"),
            }
        }
    }

    #[test]
    fn a_late_answer_and_one_that_nobody_asked_for_do_nothing() {
        let mut told = Told::new(true);
        assert_eq!(told.hear(answer("y\n")), []);
        told.hear(News::Interrupted);
        told.hear(News::Interrupted);
        assert_eq!(told.hear(answer("n\n")), []);
        assert_eq!(told.look(MigrationStatus::Cancelling), [Act::Show]);
    }

    #[test]
    fn without_a_terminal_an_interrupt_cancels_at_once() {
        assert!(Told::new(false).hear(News::Interrupted).ends_with(&[Act::Cancel]));
    }

    #[test]
    fn a_controller_that_is_away_is_said_once_and_waited_for_with_a_bound() {
        let mut told = Told::new(true);
        assert!(matches!(&told.hear(away())[..], [Act::Say(words)] if words.contains("goes on without it")));
        told.now += CONTROLLER_AWAY_MAX;
        assert_eq!(told.hear(away()), []);
        assert!(told.look(MigrationStatus::Running).ends_with(&[Act::Show]));
        told.now += CONTROLLER_AWAY_MAX;
        assert!(matches!(&told.hear(away())[..], [Act::Say(_)]), "it was seen meanwhile");
        told.now += Duration::from_secs(1);
        let lost = told.hear(away());
        let [Act::End(End::Lost(failure))] = &lost[..] else { panic!("{lost:?}") };
        assert!(failure.detail.contains("goes on at the hosts"), "{failure}");
        let id = told.following.migration.id.to_string();
        assert!(
            failure.hint.as_ref().is_some_and(|hint| hint.contains(&format!("migration show {id}"))),
            "{failure:?}"
        );
    }

    #[test]
    fn a_move_that_the_controller_does_not_know_is_not_waited_for() {
        let unknown = Failure::new(FailureCode::NotFound, "no such migration");
        let acts = Told::new(true).hear(News::Looked(Err(unknown.clone())));
        assert_eq!(acts, [Act::End(End::Lost(unknown))]);
    }
}
