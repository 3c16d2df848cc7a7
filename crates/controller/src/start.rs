//! From a configuration to a controller that serves, and back.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_daemon::{
    clock::Timestamp,
    durable,
    pki::{Authority, Names, Secret, renewal},
    serve::{ServeLimits, serve},
    shutdown, tcp,
    telemetry::{self, LogFormat},
    tls,
};
use whimbrel_store::{ApiToken, Store, TokenRole};

use crate::{
    agents::Agents,
    api,
    app::{self, App, Shared},
    config::ControllerConfig,
    heartbeat::{self, Heartbeats},
    image::Vault,
    migrate::{self, Drivers},
    openstack::{
        identity::{self, Passwords, SiteKeystone},
        network,
    },
    reconcile,
};

const TOKEN_BYTES_MAX: u64 = 4096;
const ADMIN_TOKEN_NAME: &str = "admin";

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: ControllerConfig) -> anyhow::Result<()> {
    telemetry::init(LogFormat::Text, None)?;
    let shutdown = shutdown::on_signals()?;
    Controller::start(config, shutdown).await?.wait().await
}

/// A controller that serves; dropping it does not stop it, cancelling its token does.
pub struct Controller {
    address: SocketAddr,
    app: Shared,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Controller {
    /// Returns when it listens.
    pub async fn start(config: ControllerConfig, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let listener = tcp::listen(config.listen).context("hint: is another controller running?")?;
        let address = listener.local_addr()?;
        let app = open(&config, shutdown.clone()).await?;
        spawn_loops(&app, &config);
        migrate::drive_on(&app).await.context("cannot read unfinished migrations")?;
        let serving = tokio::spawn(serve_api(app.clone(), listener, shutdown));
        tracing::info!(%address, ca = %app.authority.certificate().fingerprint(), "controller is up");
        Ok(Controller { address, app, serving })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until it was told to stop and all that it did has ended.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.serving.await.context("the API ended")?.context("the API failed")?;
        self.app.tasks.close();
        self.app.tasks.wait().await;
        self.app.store.close().await;
        Ok(())
    }
}

async fn open(config: &ControllerConfig, shutdown: CancellationToken) -> anyhow::Result<Shared> {
    let state_dir = &config.state_dir;
    // Before anything is made: a configuration that cannot be leaves nothing behind.
    let keystone = site_keystone(config)?;
    durable::make_dir(state_dir)?;
    let authority = Authority::open(state_dir, Timestamp::now())?;
    let identity = app::own_identity(&authority, state_dir, &config.name, &config.certificate_names())?;
    let store = Store::open(&config.database_url()).await.context("cannot open the database")?;
    admin_token(&store, &config.admin_token_file()).await?;
    identity::seed(&store, App::now_us()).await.context("cannot prepare the identity records")?;
    Ok(Arc::new(App {
        agents: Agents::new(identity.clone(), authority.certificate().clone()),
        vault: Vault::open(state_dir)?,
        store,
        authority,
        identity,
        heartbeats: Heartbeats::default(),
        drivers: Drivers::default(),
        passwords: Passwords::new()?,
        keystone,
        servers_changed: Notify::new(),
        tasks: TaskTracker::new(),
        shutdown,
    }))
}

fn site_keystone(config: &ControllerConfig) -> anyhow::Result<Option<SiteKeystone>> {
    let Some(site) = config.identity.site(|name| std::env::var(name).ok())? else { return Ok(None) };
    SiteKeystone::new(site).map(Some).map_err(|error| {
        let hint = error.hint();
        anyhow::Error::new(error).context(format!("hint: {hint}"))
    })
}

fn spawn_loops(app: &Shared, config: &ControllerConfig) {
    app.tasks.spawn(heartbeat::watch(app.clone()));
    app.tasks.spawn(reconcile::run(app.clone()));
    app.tasks.spawn(identity::forget_expired(app.clone()));
    app.tasks.spawn(try_keystone(app.clone()));
    app.tasks.spawn(network::release_orphans(app.clone()));
    app.tasks.spawn(keep_renewed(app.clone(), config.state_dir.clone(), config.certificate_names()));
}

/// A Keystone that is down now may come up later, so this only tells.
async fn try_keystone(app: Shared) {
    let Some(keystone) = &app.keystone else { return };
    tokio::select! {
        () = app.shutdown.cancelled() => {}
        () = keystone.try_log_in() => {}
    }
}

/// The CA is at hand, so this asks itself.
async fn keep_renewed(app: Shared, state_dir: std::path::PathBuf, names: Names) {
    let (identity, shutdown) = (app.identity.clone(), app.shutdown.clone());
    let ask = |csr_pem: String| {
        let signed = app.authority.sign(&csr_pem, &app.identity.who(), &names, Timestamp::now());
        async move { signed.map(|issued| issued.chain_pem) }
    };
    renewal::keep_renewed(identity, &app::identity_path(&state_dir), shutdown, ask).await;
}

async fn serve_api(app: Shared, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
    let tls = tls::mutual_optional(&app.identity, app.authority.certificate(), tls::Protocol::Http)
        .map_err(std::io::Error::other)?;
    serve(listener, tls, api::router(app), ServeLimits::default(), shutdown).await
}

/// The first admin's token: made at the first start, and put into a new database if only that was lost.
async fn admin_token(store: &Store, path: &Path) -> anyhow::Result<()> {
    let secret: Secret = match durable::read(path, TOKEN_BYTES_MAX)? {
        Some(bytes) => String::from_utf8_lossy(&bytes)
            .trim()
            .parse()
            .with_context(|| format!("{} holds no token (hint: remove it to have one made)", path.display()))?,
        None => {
            let secret = Secret::generate()?;
            durable::write_private(path, format!("{}\n", secret.reveal()).as_bytes())
                .with_context(|| format!("cannot write the admin's token to {}", path.display()))?;
            tracing::info!(path = %path.display(), "the first admin's token was made");
            secret
        }
    };
    let hash = secret.hash().to_string();
    if store.api_token_by_hash(&hash).await?.is_some() {
        return Ok(());
    }
    let token =
        |name: String| ApiToken { name, hash: hash.clone(), role: TokenRole::Admin, created_us: Timestamp::now().0 };
    match store.create_api_token(&token(ADMIN_TOKEN_NAME.to_owned())).await {
        // The file was replaced: the old token stays until somebody deletes it.
        Err(whimbrel_store::StoreError::Conflict { .. }) => {
            Ok(store.create_api_token(&token(format!("{ADMIN_TOKEN_NAME}-{}", &hash[..8]))).await?)
        }
        other => Ok(other?),
    }
}
