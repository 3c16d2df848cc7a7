//! The controller that is measured: the binary, with a state directory of its own, on an address of this machine.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use whimbrel_api::{client::ControllerClient, native::Bootstrap};

use super::{Engine, postgres::Postgres};
use crate::{binary, process::ProcessId, wait};

const START_TIME_MAX: Duration = Duration::from_secs(30);
pub(super) const PASSWORD: &str = "correct horse battery staple";

pub(super) struct Cloud {
    dir: PathBuf,
    pub(super) url: String,
    pub(super) ca_pem: String,
    pub(super) client: ControllerClient,
    controller: Child,
    id: ProcessId,
    postgres: Option<Postgres>,
}

impl Cloud {
    pub(super) async fn start(dir: &Path, engine: Engine) -> Result<Cloud> {
        let postgres = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Postgres::start()?),
        };
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (config, state) = (dir.join("controller.toml"), dir.join("state"));
        let database =
            postgres.as_ref().map_or(String::new(), |postgres| format!("database_url = '{}'\n", postgres.url()));
        fs_err::write(&config, format!("listen = '{listen}'\nstate_dir = '{}'\n{database}", state.display()))?;
        let log = fs_err::File::create(dir.join("log"))?.into_parts().0;
        let controller = Command::new(binary::path()?)
            .args(["controller", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let id = ProcessId::of(i32::try_from(controller.id())?).context("the controller ended at once")?;
        let url = format!("https://{listen}");
        let answers = async || {
            let (Ok(ca_pem), Ok(token)) =
                (std::fs::read_to_string(state.join("ca.crt")), std::fs::read_to_string(state.join("admin.token")))
            else {
                return Ok(None);
            };
            let Ok(client) = ControllerClient::new(&url, &ca_pem, token.trim()) else { return Ok(None) };
            Ok(client.version().await.ok().map(|_| (ca_pem, client)))
        };
        let (ca_pem, client) = wait::until_async("the controller's answer", START_TIME_MAX, answers).await?;
        client.bootstrap(&Bootstrap { password: PASSWORD.to_owned() }).await?;
        Ok(Cloud { dir: dir.to_owned(), url, ca_pem, client, controller, id, postgres })
    }

    /// Feeds a file of statements to its database, while it runs.
    pub(super) fn feed(&self, file: &Path) -> Result<()> {
        match &self.postgres {
            Some(postgres) => postgres.feed(file),
            None => {
                let read = format!(".read {}", file.display());
                let database = self.dir.join("state/controller.db");
                super::postgres::run(Command::new("sqlite3").arg("-bail").arg(database).arg(read))
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn cpu_s(&self) -> Result<f64> {
        self.id.cpu_s().context("the controller ended")
    }

    pub(super) fn database_cpu_s(&self) -> Option<f64> {
        self.postgres.as_ref().and_then(Postgres::cpu_s)
    }

    pub(super) fn rss_bytes_max(&self) -> Option<u64> {
        self.id.rss_bytes_max()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}
