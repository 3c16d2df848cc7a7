//! Keeps an identity valid without anybody's help: at 2/3 of the lifetime asks for a new certificate, and goes on asking.
//!
//! A third of the lifetime (more than two days) is left for a controller that is down; only then does a host fall out.

use std::{fmt::Display, future::Future, path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Identity, PkiError, new_signing_request};
use crate::clock::Timestamp;

/// How often to look and to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The clock is looked at this often at least: a suspended host's timers stand still while its certificate ages.
    pub look_every: Duration,
    /// Doubles with each failure, up to `retry_max`.
    pub retry_first: Duration,
    pub retry_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            look_every: Duration::from_secs(15 * 60),
            retry_first: Duration::from_secs(2),
            retry_max: Duration::from_secs(10 * 60),
        }
    }
}

/// Renews until `shutdown`. `ask` sends a CSR to the CA and returns the chain; `path` is where key and chain are kept.
pub async fn keep_renewed<Ask, Answer, Error>(
    identity: Arc<Identity>,
    path: &Path,
    shutdown: CancellationToken,
    ask: Ask,
) where
    Ask: FnMut(String) -> Answer,
    Answer: Future<Output = Result<String, Error>>,
    Error: Display,
{
    keep_renewed_at(&Pace::default(), identity, path, shutdown, ask).await;
}

/// As [`keep_renewed`], at a pace of the caller's.
pub async fn keep_renewed_at<Ask, Answer, Error>(
    pace: &Pace,
    identity: Arc<Identity>,
    path: &Path,
    shutdown: CancellationToken,
    mut ask: Ask,
) where
    Ask: FnMut(String) -> Answer,
    Answer: Future<Output = Result<String, Error>>,
    Error: Display,
{
    let mut retry = pace.retry_first;
    while !shutdown.is_cancelled() {
        let wait = identity.renew_at().since(Timestamp::now()).min(pace.look_every);
        let pause = if wait.is_zero() {
            match renew(&identity, path, &mut ask).await {
                Ok(()) => {
                    tracing::info!(identity = %identity.who(), until = %identity.not_after(), "certificate renewed");
                    retry = pace.retry_first;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(identity = %identity.who(), until = %identity.not_after(), error,
                        retry_s = retry.as_secs(), "certificate not renewed yet");
                }
            }
            let pause = retry;
            retry = (retry * 2).min(pace.retry_max);
            pause
        } else {
            wait
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew<Ask, Answer, Error>(identity: &Identity, path: &Path, ask: &mut Ask) -> Result<(), String>
where
    Ask: FnMut(String) -> Answer,
    Answer: Future<Output = Result<String, Error>>,
    Error: Display,
{
    let text = |error: PkiError| error.to_string();
    let request = new_signing_request().map_err(text)?;
    let chain = ask(request.csr_pem.clone()).await.map_err(|error| error.to_string())?;
    let both = request.finish(&chain).map_err(text)?;
    let next = Identity::new(&both).map_err(text)?;
    if next.who() != identity.who() {
        return Err(format!("the CA sent a certificate of {} where {} asked", next.who(), identity.who()));
    }
    if next.renew_at() <= Timestamp::now() {
        return Err(format!("the CA sent a certificate that is valid only until {}", next.not_after()));
    }
    both.save(path).map_err(text)?;
    identity.replace(&both).map_err(text)
}
