//! A controller with its state in a temporary directory, and the hosts that joined it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_api::{
    client::ControllerClient,
    native::{
        HostState, Image, ImagePart, Join, Joined, NewFlavor, NewImage, NewJoinToken, NewServer, Server, ServerStatus,
    },
};
use whimbrel_controller::{Controller, ControllerConfig};
use whimbrel_core::{failure::Failure, id::HostName};
use whimbrel_daemon::{
    pki::{CaCert, JoinToken, KeyAndChain, new_signing_request},
    tls,
};

use crate::fake_agent::{FakeAgent, Told};

const TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub struct Place {
    pub dir: TempDir,
    pub client: ControllerClient,
    pub url: String,
    address: SocketAddr,
    running: Option<(Controller, CancellationToken)>,
}

/// Waits until `look` has something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(TIME_MAX, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited {} s for {what}", TIME_MAX.as_secs()))
}

pub fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn config(dir: &Path, listen: SocketAddr, more: &str) -> ControllerConfig {
    let text = format!("listen = '{listen}'\nstate_dir = '{}'\n{more}", dir.display());
    whimbrel_daemon::config::parse(Path::new("test.toml"), &text).unwrap()
}

impl Place {
    pub async fn new() -> Self {
        Place::with(tempfile::tempdir().unwrap(), "").await
    }

    /// With `more` in its configuration.
    pub async fn with(dir: TempDir, more: &str) -> Self {
        let stop = CancellationToken::new();
        let config = config(dir.path(), "127.0.0.1:0".parse().unwrap(), more);
        let controller = Controller::start(config, stop.clone()).await.unwrap();
        let address = controller.address();
        let url = format!("https://{address}");
        let ca = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();
        let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
        let client = ControllerClient::new(&url, &ca, &token).unwrap();
        Place { dir, client, url, address, running: Some((controller, stop)) }
    }

    pub fn ca(&self) -> CaCert {
        CaCert::load(&self.dir.path().join("ca.crt")).unwrap()
    }

    pub async fn stop(&mut self) {
        if let Some((controller, stop)) = self.running.take() {
            stop.cancel();
            controller.wait().await.unwrap();
        }
    }

    /// As after a crash of the controller: the same state, the same address.
    pub async fn start_again(&mut self) {
        self.start_again_with("").await;
    }

    pub async fn start_again_with(&mut self, more: &str) {
        let stop = CancellationToken::new();
        let config = config(self.dir.path(), self.address, more);
        self.running = Some((Controller::start(config, stop.clone()).await.unwrap(), stop));
    }

    pub async fn join_by(&self, token: &JoinToken, host: &str) -> Result<KeyAndChain, Failure> {
        let client = ControllerClient::from_tls(&self.url, tls::join_config(token.ca).unwrap()).unwrap();
        let request = new_signing_request().unwrap();
        let ask = Join { secret: token.secret.reveal(), host: name(host), csr_pem: request.csr_pem.clone() };
        let Joined { certificate_pem, ca_pem } = client.join(&ask).await?;
        assert_eq!(CaCert::from_pem(&ca_pem).unwrap().fingerprint(), token.ca);
        Ok(request.finish(&certificate_pem).unwrap())
    }

    pub async fn token(&self, host: &str) -> JoinToken {
        self.client.create_join_token(&NewJoinToken { host: name(host) }).await.unwrap().token.parse().unwrap()
    }

    /// A host that joined, serves and is up.
    pub async fn host(&self, host: &str) -> Arc<FakeAgent> {
        self.host_that(host, |_| {}).await
    }

    /// As [`Place::host`], and with `told` from its first word on.
    pub async fn host_that(&self, host: &str, told: impl FnOnce(&mut Told)) -> Arc<FakeAgent> {
        let both = self.join_by(&self.token(host).await, host).await.unwrap();
        let agent = FakeAgent::start(&name(host), &self.url, &self.ca(), &both, CancellationToken::new()).await;
        told(&mut agent.told());
        self.host_is(host, HostState::Up).await;
        agent
    }

    pub async fn host_is(&self, host: &str, state: HostState) {
        until(&format!("host {host} to be {state:?}"), async || {
            self.client.host(host).await.ok().filter(|host| host.state == state)
        })
        .await;
    }

    /// Uploads `content`; the image is named as the test wants.
    pub async fn image(&self, image: &str, content: &[u8]) -> Result<Image, Failure> {
        let file = self.dir.path().join("upload");
        std::fs::write(&file, content).unwrap();
        self.client
            .create_image(&NewImage {
                name: image.to_owned(),
                os_command_line: None,
                disk: None,
                kernel: None,
                ramdisk: None,
            })
            .await?;
        self.client.upload_image(image, ImagePart::Disk, &file).await
    }

    pub async fn flavor(&self, flavor: &str, ram_mb: u64, disk_gb: u64) {
        let new = NewFlavor {
            name: flavor.to_owned(),
            flavorid: None,
            vcpus: 1,
            ram_mb,
            disk_gb,
            ephemeral_gb: 1,
            swap_mb: 64,
        };
        self.client.create_flavor(&new).await.unwrap();
    }

    pub async fn server(&self, server: &str, flavor: &str, host: Option<&str>) -> Result<Server, Failure> {
        let new = NewServer {
            name: server.to_owned(),
            flavor: flavor.to_owned(),
            image: "debian".to_owned(),
            host: host.map(str::to_owned),
            networks: vec!["br0".to_owned()],
            os_command_line: None,
            iothreads: false,
            machine: None,
            config_drive: false,
            user_data: None,
        };
        self.client.create_server(&new).await
    }

    pub async fn server_is(&self, server: &str, status: ServerStatus) -> Server {
        until(&format!("server {server} to be {status:?}"), async || {
            self.client.server(server).await.ok().filter(|server| server.status == status)
        })
        .await
    }

    /// Image, flavor, hosts h1 and h2, and server `s1` running on h1.
    pub async fn with_server() -> (Self, Arc<FakeAgent>, Arc<FakeAgent>, Server) {
        let place = Place::new().await;
        let (h1, h2) = tokio::join!(place.host("h1"), place.host("h2"));
        place.image("debian", &[0; 4096]).await.unwrap();
        place.flavor("small", 512, 1).await;
        place.server("s1", "small", Some("h1")).await.unwrap();
        let server = place.server_is("s1", ServerStatus::Active).await;
        (place, h1, h2, server)
    }
}
