//! From a configuration to a controller that serves, and back.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_daemon::{
    clock::Timestamp,
    durable, open_files,
    pki::{Names, Secret, renewal},
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
    leases::{self, Leases},
    migrate::{self, Drivers},
    openstack::{
        compute::servers::history,
        identity::{self, Passwords},
        network,
    },
    reconcile, shared_dir,
};

const TOKEN_BYTES_MAX: u64 = 4096;
const ADMIN_TOKEN_NAME: &str = "admin";

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: ControllerConfig) -> anyhow::Result<()> {
    telemetry::init(LogFormat::Text, None)?;
    open_files::allow_many();
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
        let app = open(&config, address, shutdown.clone()).await?;
        leases::begin(&app.store, &app.leases).await.context("cannot take up work")?;
        spawn_loops(&app, &config);
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
        leases::give_back(&self.app.store, &self.app.leases).await;
        self.app.store.close().await;
        Ok(())
    }
}

async fn open(config: &ControllerConfig, address: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<Shared> {
    let state_dir = &config.state_dir;
    durable::make_dir(state_dir)?;
    let store = Store::open(&config.database_url()).await.context("cannot open the database")?;
    let token_file = config.admin_token_file();
    let (authority, admin) = shared_dir::open(&store, config.shared_dir(), || admin_secret(&token_file)).await?;
    let identity = app::own_identity(&authority, state_dir, &config.name, &config.certificate_names())?;
    let_admin_in(&store, &admin).await?;
    identity::seed(&store, App::now_us()).await.context("cannot prepare the identity records")?;
    Ok(Arc::new(App {
        agents: Agents::new(identity.clone(), authority.certificate().clone()),
        vault: Vault::open(config.shared_dir(), &config.name)?,
        leases: Leases::new(&config.name, format!("https://{address}")),
        store,
        authority,
        identity,
        heartbeats: Heartbeats::default(),
        drivers: Drivers::default(),
        passwords: Passwords::new()?,
        servers_changed: Notify::new(),
        tasks: TaskTracker::new(),
        shutdown,
    }))
}

fn spawn_loops(app: &Shared, config: &ControllerConfig) {
    app.tasks.spawn(leases::keep(app.clone()));
    app.tasks.spawn(migrate::keep_driving(app.clone()));
    app.tasks.spawn(heartbeat::write(app.clone()));
    app.tasks.spawn(heartbeat::watch(app.clone()));
    app.tasks.spawn(history::end_orphans(app.clone()));
    app.tasks.spawn(reconcile::run(app.clone()));
    app.tasks.spawn(identity::forget_expired(app.clone()));
    app.tasks.spawn(network::release_orphans(app.clone()));
    app.tasks.spawn(keep_renewed(app.clone(), config.state_dir.clone(), config.certificate_names()));
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
fn admin_secret(path: &Path) -> anyhow::Result<Secret> {
    if let Some(bytes) = durable::read(path, TOKEN_BYTES_MAX)? {
        let parsed = String::from_utf8_lossy(&bytes).trim().parse();
        return parsed.with_context(|| format!("{} holds no token (hint: remove it to have one made)", path.display()));
    }
    let secret = Secret::generate()?;
    durable::write_private(path, format!("{}\n", secret.reveal()).as_bytes())
        .with_context(|| format!("cannot write the admin's token to {}", path.display()))?;
    tracing::info!(path = %path.display(), "the first admin's token was made");
    Ok(secret)
}

async fn let_admin_in(store: &Store, secret: &Secret) -> anyhow::Result<()> {
    let hash = secret.hash().to_string();
    let token =
        |name: String| ApiToken { name, hash: hash.clone(), role: TokenRole::Admin, created_us: Timestamp::now().0 };
    // The file may have been replaced: the old token stays until somebody deletes it.
    for name in [ADMIN_TOKEN_NAME.to_owned(), format!("{ADMIN_TOKEN_NAME}-{}", &hash[..8])] {
        if store.api_token_by_hash(&hash).await?.is_some() {
            return Ok(());
        }
        match store.create_api_token(&token(name)).await {
            // Another controller may have come first, with this very token.
            Err(whimbrel_store::StoreError::Conflict { .. }) => {}
            other => return Ok(other?),
        }
    }
    anyhow::ensure!(store.api_token_by_hash(&hash).await?.is_some(), "the admin's token could not be stored");
    Ok(())
}
