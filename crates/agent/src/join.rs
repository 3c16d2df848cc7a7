//! How a host gets its certificate: once by a join token, then by itself, for ever.
//!
//! ```text
//! agent.pem there? --yes--> use it
//!        | no
//! join_token in the config --> key and CSR made here --> POST /v1/join --> agent.pem (0600), ca.pem
//! ```
//!
//! Ground rules: the key never leaves this host; the CA is known by the fingerprint in the token and by nothing that the
//! network says; a controller that is away is asked again, one that refuses ends the start.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::bail;
use tokio_util::sync::CancellationToken;
use whimbrel_api::{
    client::ControllerClient,
    native::{Join, Joined, Renew},
};
use whimbrel_core::failure::{Failure, FailureCode};
use whimbrel_daemon::{
    pki::{CaCert, Identity, JoinToken, KeyAndChain, PeerIdentity, Role, new_signing_request, renewal},
    tls::{self, Expect, Protocol},
};

use crate::{config::AgentConfig, paths::Paths};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub struct Membership {
    pub identity: Arc<Identity>,
    pub ca: CaCert,
    pub controller: ControllerClient,
}

/// The identity of this host, by a join if it has none yet.
pub async fn membership(
    config: &AgentConfig,
    paths: &Paths,
    shutdown: &CancellationToken,
) -> anyhow::Result<Membership> {
    let both = match KeyAndChain::load(&paths.identity())? {
        Some(both) => both,
        None => join(config, paths, shutdown).await?,
    };
    let ca = CaCert::load(&paths.ca())?;
    let identity = Identity::new(&both)?;
    let expected = PeerIdentity::agent(config.name.clone());
    if identity.who() != expected {
        let (path, who) = (paths.identity(), identity.who());
        let detail = format!("{} is the identity of {who}, but this host is called '{}'", path.display(), config.name);
        let failure = Failure::new(FailureCode::Conflict, detail);
        return Err(failure.hint("set its name back, or let it join anew with an empty state_dir").into());
    }
    let tls = tls::client_config(&identity, &ca, Expect::Any(Role::Controller), Protocol::Http)?;
    let controller = ControllerClient::of_any(config.controller_url.as_slice(), tls)?;
    Ok(Membership { identity, ca, controller })
}

async fn join(config: &AgentConfig, paths: &Paths, shutdown: &CancellationToken) -> anyhow::Result<KeyAndChain> {
    let Some(token) = &config.join_token else {
        let name = &config.name;
        let detail = format!("host '{name}' has no certificate yet and its configuration no join_token");
        let hint = format!("make a token with `whimbrel host token {name}` and put it into the configuration");
        return Err(Failure::new(FailureCode::Unauthorized, detail).hint(hint).into());
    };
    let token: JoinToken = token.parse()?;
    let client = ControllerClient::of_any(config.controller_url.as_slice(), tls::join_config(token.ca)?)?;
    let request = new_signing_request()?;
    let ask = Join { secret: token.secret.reveal(), host: config.name.clone(), csr_pem: request.csr_pem.clone() };
    let joined: Joined = until_answered(shutdown, || client.join(&ask)).await?;
    let ca = CaCert::from_pem(&joined.ca_pem)?;
    if ca.fingerprint() != token.ca {
        bail!("the controller at {} sent another CA than the join token names", config.controller_url);
    }
    let both = request.finish(&joined.certificate_pem)?;
    // The CA first: an identity without it could not be used, and would keep the next start from joining.
    ca.save(&paths.ca())?;
    both.save(&paths.identity())?;
    tracing::info!(host = %config.name, controller = %config.controller_url, "joined");
    Ok(both)
}

async fn until_answered<T, Answer>(shutdown: &CancellationToken, mut ask: impl FnMut() -> Answer) -> anyhow::Result<T>
where
    Answer: Future<Output = Result<T, Failure>>,
{
    let mut retry = RETRY_FIRST;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(failure) if failure.code == FailureCode::HostDown => {
                tracing::warn!(%failure, retry_ms = retry.as_millis() as u64, "cannot join yet");
            }
            Err(failure) => return Err(failure.into()),
        }
        tokio::select! {
            () = shutdown.cancelled() => bail!("stopped before this host could join"),
            () = tokio::time::sleep(retry) => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Renews until shutdown.
pub async fn keep_renewed(membership: &Membership, paths: &Paths, shutdown: CancellationToken) {
    let controller = membership.controller.clone();
    let ask = move |csr_pem: String| {
        let controller = controller.clone();
        async move { controller.renew(&Renew { csr_pem }).await.map(|joined| joined.certificate_pem) }
    };
    renewal::keep_renewed(membership.identity.clone(), &paths.identity(), shutdown, ask).await;
}
