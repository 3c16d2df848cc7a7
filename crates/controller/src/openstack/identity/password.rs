//! Passwords: hashed with Argon2id, compared off the async threads, and never many at once.
//!
//! Ground rules: a hash takes 19 MiB and some 20 ms on purpose, so the number of those at work is bounded and so is the wait
//! for a turn; a log-in as nobody takes as long as one with a wrong password.

use std::{sync::Arc, time::Duration};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier, password_hash::SaltString};
use tokio::sync::Semaphore;
use whimbrel_api::openstack::identity::fault::Fault;
use whimbrel_daemon::pki::Secret;

const AT_ONCE_MAX: usize = 4;
const TURN_TIME_MAX: Duration = Duration::from_secs(20);

/// Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// Of a password that nobody knows.
    nobodys: Arc<str>,
}

impl Passwords {
    pub fn new() -> anyhow::Result<Self> {
        let hash = hash(&Secret::generate()?.reveal()).map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
        Ok(Passwords { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)), nobodys: hash.into() })
    }

    /// A PHC string.
    pub async fn hash(&self, password: String) -> Result<String, Fault> {
        self.turn(move || hash(&password)).await?.map_err(|error| internal("hashed", &error))
    }

    /// `against` is `None` for a user who is not there or has no password.
    pub async fn verify(&self, password: String, against: Option<String>) -> Result<bool, Fault> {
        let (known, nobodys) = (against.is_some(), self.nobodys.clone());
        let matches = self
            .turn(move || {
                let against = against.as_deref().unwrap_or(&nobodys);
                PasswordHash::new(against)
                    .map(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(matches.map_err(|error| internal("read", &error))? && known)
    }

    async fn turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let busy = || Fault::new(503, "Too many log-ins at once: try again in a moment.");
        let turn = tokio::time::timeout(TURN_TIME_MAX, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        // The turn goes with the work, which goes on if the one who asked does not wait.
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| internal("handled", &error))
    }
}

fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    use argon2::password_hash::rand_core::OsRng;
    let salt = SaltString::generate(&mut OsRng);
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
}

fn internal(done: &str, error: &dyn std::fmt::Display) -> Fault {
    tracing::error!(%error, "a password could not be {done}");
    Fault::new(500, "An unexpected error prevented the server from fulfilling your request.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_somebody_matches() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("right".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        let check = async |password: &str, against: Option<String>, want: bool| {
            assert_eq!(passwords.verify(password.to_owned(), against).await.unwrap(), want, "{password}");
        };
        check("right", Some(hash.clone()), true).await;
        check("wrong", Some(hash.clone()), false).await;
        check("", Some(hash), false).await;
        check("right", None, false).await;
        assert_eq!(passwords.verify("x".to_owned(), Some("no hash".to_owned())).await.unwrap_err().status, 500);
    }
}
