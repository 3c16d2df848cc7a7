//! From a configuration to an agent that serves, and to its end, which no guest notices.
//!
//! ```text
//! directories -> certificate (join) -> what QEMU can do -> instances found again -> migrations recovered -> serve
//! ```
//!
//! Ground rule: nobody is served before the journals were read and their migrations hold their claims, or a late ask could
//! start a guest that is another host's by now.

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use whimbrel_daemon::{
    serve::{ServeLimits, serve},
    shutdown, tcp,
    telemetry::{self, LogFormat},
    tls::{self, Protocol},
};

use crate::{
    api::{self, Served},
    config::AgentConfig,
    context::Context,
    facts::{Facts, Qemu},
    heartbeat,
    hold::Holds,
    hypervisor::Hypervisor,
    instances::Instances,
    join::{self, Membership},
    migrate::{Migrations, comparisons::Comparisons},
    paths::Paths,
    reach,
    storage::{ImageStore, image::Origin, shared},
};

/// Runs until SIGTERM or SIGINT. Guests go on.
pub async fn run(config: AgentConfig) -> anyhow::Result<()> {
    telemetry::init(LogFormat::Text, None)?;
    let shutdown = shutdown::on_signals()?;
    run_until(config, shutdown).await
}

/// Runs until `shutdown` is cancelled.
pub async fn run_until(config: AgentConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let paths = Paths::new(&config.state_dir, &config.run_dir, config.qemu_user)?;
    fs_err::create_dir_all(paths.state_dir())?;
    let paths = shared::place(paths, config.shared_dir.as_deref(), &config.name)?;
    paths.make()?;
    // Bound early: an address that is taken is told before anything is touched.
    let control = tcp::listen(config.control_listen).context("hint: is another agent running on this host?")?;
    let hypervisor = Arc::new(Hypervisor::new(&config)?);
    if let Some(user) = config.qemu_user {
        for program in [&hypervisor.system, &hypervisor.img, &hypervisor.storage_daemon] {
            reach::check(user, program, "qemu_dir")?;
        }
        reach::check(user, paths.state_dir(), "state_dir")?;
        reach::check(user, paths.run_root(), "run_dir")?;
        if let Some(shared) = paths.shared() {
            reach::check(user, &shared.dir, "shared_dir")?;
        }
    }
    shared::check_direct(&paths, &hypervisor)?;
    hypervisor.choose_pages();
    let membership = join::membership(&config, &paths, &shutdown).await?;
    let qemu = Qemu::probe(&hypervisor, &paths).await?;
    tracing::info!(host = %config.name, qemu = qemu.version, accel = hypervisor.accel, "QEMU answers");

    let context = context(config, paths, hypervisor, &membership, shutdown.clone()).await?;
    let facts = Arc::new(Facts::new(qemu));
    let migrations = Migrations::new(context.clone());
    migrations.recover().await.context("cannot take up the migrations of before")?;

    let tasks = TaskTracker::new();
    let renewed = (context.paths.clone(), shutdown.clone());
    tasks.spawn(async move { join::keep_renewed(&membership, &renewed.0, renewed.1).await });
    tasks.spawn(heartbeat::beat(context.clone(), facts.clone()));
    let data = tokio::spawn(ending_all(migrations.clone().serve_data(shutdown.clone()), shutdown.clone()));
    let tls = tls::mutual(&context.identity, &context.ca, Protocol::Http)?;
    let router = api::router(Served { context: context.clone(), facts, migrations });
    let served = serve(control, tls, router, ServeLimits::default(), shutdown.clone());
    let served = ending_all(served, shutdown).await;
    let data = data.await.context("the data listener died")?;
    tasks.close();
    tasks.wait().await;
    data.context("the data listener failed")?;
    served.context("the control listener failed")?;
    tracing::info!("stopped; guests go on");
    Ok(())
}

/// An agent that lost one of its listeners is of no use: it ends whole, and its service starts it again.
async fn ending_all<T>(listener: impl Future<Output = T>, shutdown: CancellationToken) -> T {
    let ended = listener.await;
    shutdown.cancel();
    ended
}

async fn context(
    config: AgentConfig,
    paths: Paths,
    hypervisor: Arc<Hypervisor>,
    membership: &Membership,
    shutdown: CancellationToken,
) -> anyhow::Result<Arc<Context>> {
    let controller = membership.controller.clone();
    let images = ImageStore::new(paths.clone(), hypervisor.clone(), Origin::Controller(controller.clone()));
    images.sweep().context("cannot look through the images")?;
    let images = Arc::new(images);
    let instances = Instances::load(paths.clone(), hypervisor.clone(), images.clone()).await?;
    Ok(Arc::new(Context {
        holds: Holds::of(paths.state_dir()),
        config,
        paths,
        hypervisor,
        instances,
        images,
        identity: membership.identity.clone(),
        ca: membership.ca.clone(),
        controller,
        comparisons: Comparisons::default(),
        shutdown,
    }))
}
