//! The site's own Keystone, which vouches for tokens where `identity.backend` is `keystone`.
//!
//! ```text
//! X-Auth-Token -> kept? -> a turn -> own token (renewed before its end, or when it is not known) -> GET /v3/auth/tokens
//! ```
//!
//! Ground rules: few questions at once, each with a deadline, and a bound on who waits; a token that Keystone does not know
//! is refused, a Keystone that does not answer is 503 and never a refusal; what was vouched for is taken for `cache_s` at most
//! and never beyond its token's end, so a revoked token works on that long.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex as Turn, Semaphore};
use whimbrel_api::{
    client::{AskerToken, KeystoneClient, KeystoneError, Word},
    openstack::identity::{
        fault::Fault,
        vouched::{Credentials, Vouched},
    },
};
use whimbrel_core::identity::{
    ProjectId, Requester,
    vouched::{TokenHash, VouchedTokens},
};

use crate::{app::App, config::Site};

const AT_ONCE_MAX: usize = 16;
/// With the wait for a turn.
const ASK_TIME_MAX: Duration = Duration::from_secs(20);
/// Each some 200 bytes.
const KEPT_MAX: usize = 10_000;
/// Keystone's own bound is 255 for Fernet; JWTs are longer.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// The controller's token is renewed so long before its end.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

pub struct SiteKeystone {
    client: KeystoneClient,
    /// For clients.
    public_url: String,
    credentials: Credentials,
    own: Turn<Option<AskerToken>>,
    kept: Mutex<VouchedTokens<Requester>>,
    turns: Semaphore,
    /// Zero of the clock by which words are kept.
    begun: Instant,
}

impl SiteKeystone {
    pub fn new(site: Site) -> Result<Self, KeystoneError> {
        Ok(SiteKeystone {
            client: KeystoneClient::new(&site.url, &site.ca_pem)?,
            public_url: site.public_url,
            credentials: site.credentials,
            own: Turn::new(None),
            kept: Mutex::new(VouchedTokens::new(KEPT_MAX, micros(site.cache))),
            turns: Semaphore::new(AT_ONCE_MAX),
            begun: Instant::now(),
        })
    }

    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Tells in the log whether Keystone takes the controller's user, so that a wrong password is not found out by clients.
    pub async fn try_log_in(&self) {
        match self.own_token(None).await {
            Ok(_) => tracing::info!(url = self.client.url(), "the site's Keystone takes the controller's user"),
            Err(error) => tell(&error),
        }
    }

    /// `None` for a token that Keystone does not know (any more).
    pub(super) async fn vouch(&self, shown: &str) -> Result<Option<Requester>, Fault> {
        if shown.is_empty() || shown.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let hash: TokenHash = *blake3::hash(shown.as_bytes()).as_bytes();
        if let Some(requester) = self.remembered(&hash) {
            return Ok(Some(requester));
        }
        let asked = tokio::time::timeout(ASK_TIME_MAX, self.ask(hash, shown)).await;
        asked.unwrap_or_else(|_| {
            tracing::error!(url = self.client.url(), "the site's Keystone is too slow for what it is asked");
            Err(unavailable())
        })
    }

    async fn ask(&self, hash: TokenHash, shown: &str) -> Result<Option<Requester>, Fault> {
        let Ok(_turn) = self.turns.acquire().await else { return Err(unavailable()) };
        // Somebody may have asked about the same token meanwhile.
        if let Some(requester) = self.remembered(&hash) {
            return Ok(Some(requester));
        }
        let Some(vouched) = self.validate(shown).await.map_err(told)? else { return Ok(None) };
        let left_us = vouched.expires_us.saturating_sub(App::now_us());
        if left_us <= 0 {
            return Ok(None);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.keep(hash, vouched.requester.clone(), left_us, self.now_us());
        Ok(Some(vouched.requester))
    }

    /// With the controller's token, and once more with a new one if that is not known.
    async fn validate(&self, shown: &str) -> Result<Option<Vouched>, KeystoneError> {
        let mut refused: Option<AskerToken> = None;
        loop {
            let asker = self.own_token(refused.as_ref()).await?;
            match self.client.validate(&asker, shown).await? {
                Word::Good(vouched) => return Ok(Some(vouched)),
                Word::NoToken => return Ok(None),
                Word::AskerUnknown if refused.is_none() => refused = Some(asker),
                Word::AskerUnknown => return Err(KeystoneError::Forbidden { url: self.client.url().to_owned() }),
            }
        }
    }

    /// As Nova, which takes a project for real where it is not told otherwise.
    pub(super) async fn has_project(&self, id: &ProjectId) -> bool {
        let asked = tokio::time::timeout(ASK_TIME_MAX, async {
            let asker = self.own_token(None).await?;
            self.client.has_project(&asker, id).await
        });
        match asked.await {
            Ok(Ok(known)) => known.unwrap_or(true),
            Ok(Err(error)) => {
                tell(&error);
                true
            }
            Err(_) => true,
        }
    }

    /// One log-in at a time, for all who wait. `refused` is one that Keystone does not know any more.
    async fn own_token(&self, refused: Option<&AskerToken>) -> Result<AskerToken, KeystoneError> {
        let mut own = self.own.lock().await;
        let good = |token: &&AskerToken| {
            let left_us = token.expires_us.saturating_sub(App::now_us());
            left_us > micros(RENEW_BEFORE) && refused.is_none_or(|refused| !refused.is_same(token))
        };
        if let Some(token) = own.as_ref().filter(good) {
            return Ok(token.clone());
        }
        let token = self.client.log_in(&self.credentials).await?;
        *own = Some(token.clone());
        Ok(token)
    }

    fn remembered(&self, hash: &TokenHash) -> Option<Requester> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(hash, self.now_us()).cloned()
    }

    fn now_us(&self) -> i64 {
        micros(self.begun.elapsed())
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn tell(error: &KeystoneError) {
    tracing::error!(%error, hint = error.hint(), "the site's Keystone is of no help");
}

/// What is wrong between the two services is for the log; who shows a token is told that it is not his fault.
fn told(error: KeystoneError) -> Fault {
    tell(&error);
    unavailable()
}

fn unavailable() -> Fault {
    Fault::new(503, "The Keystone that vouches for tokens cannot be asked: try again in a moment.")
}
