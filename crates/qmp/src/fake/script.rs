//! What a fake QEMU says to which command.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use crate::error::ErrorClass;

/// One thing that the fake does.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Replies to the command.
    Return(Value),
    /// Refuses the command.
    Fail {
        class: ErrorClass,
        desc: String,
    },
    /// Replies to the command only after the next one was answered.
    ReturnAfterNext(Value),
    Event {
        name: String,
        data: Value,
    },
    /// Writes these bytes as they are.
    Raw(Vec<u8>),
    /// Writes this many bytes of one line that never ends.
    Flood {
        bytes: usize,
    },
    /// Closes the connection.
    Hangup,
}

impl Act {
    pub fn ret(value: Value) -> Self {
        Self::Return(value)
    }

    /// The reply of a command that returns nothing.
    pub fn done() -> Self {
        Self::Return(json!({}))
    }

    pub fn fail(desc: &str) -> Self {
        Self::Fail { class: ErrorClass::GenericError, desc: desc.to_owned() }
    }

    pub fn event(name: &str, data: Value) -> Self {
        Self::Event { name: name.to_owned(), data }
    }

    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Raw(bytes.into())
    }
}

/// How the fake receives a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Opening {
    /// Greets as this version, offering out-of-band execution or not.
    Greet {
        version: [u32; 3],
        oob: bool,
    },
    /// Says these bytes instead of a greeting, then nothing more.
    Raw(Vec<u8>),
    /// Says nothing at all.
    Silence,
    Hangup,
}

type Answer = Box<dyn FnMut(&Value) -> Vec<Act> + Send>;

pub struct Script {
    pub(super) opening: Opening,
    answers: HashMap<String, Source>,
}

enum Source {
    /// One list of acts per call; the last one stays.
    Turns(VecDeque<Vec<Act>>),
    Computed(Answer),
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// QEMU 10.0.2 that knows no command.
    pub fn new() -> Self {
        Self { opening: Opening::Greet { version: [10, 0, 2], oob: true }, answers: HashMap::new() }
    }

    #[must_use]
    pub fn opening(mut self, opening: Opening) -> Self {
        self.opening = opening;
        self
    }

    /// What to do at the next call of `command` that has no acts yet. No acts at all is silence.
    #[must_use]
    pub fn on(mut self, command: &str, acts: impl IntoIterator<Item = Act>) -> Self {
        let acts = acts.into_iter().collect();
        let source = self.answers.entry(command.to_owned()).or_insert_with(|| Source::Turns(VecDeque::new()));
        match source {
            Source::Turns(turns) => turns.push_back(acts),
            Source::Computed(_) => *source = Source::Turns(VecDeque::from([acts])),
        }
        self
    }

    /// Computes what to do from the command's arguments.
    #[must_use]
    pub fn answer(mut self, command: &str, answer: impl FnMut(&Value) -> Vec<Act> + Send + 'static) -> Self {
        self.answers.insert(command.to_owned(), Source::Computed(Box::new(answer)));
        self
    }

    pub(super) fn acts(&mut self, command: &str, arguments: &Value) -> Option<Vec<Act>> {
        match self.answers.get_mut(command)? {
            Source::Computed(answer) => Some(answer(arguments)),
            Source::Turns(turns) if turns.len() > 1 => turns.pop_front(),
            Source::Turns(turns) => turns.front().cloned(),
        }
    }
}
