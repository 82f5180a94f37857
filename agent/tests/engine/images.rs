//! Images: what is known of them, and pulls by digest from a real registry.

use std::net::TcpListener;
use std::process::Command;

use agent::engine::{Engine as _, EngineError, PullError, PullUpdate};
use protocol::id::Digest;
use protocol::registries::RegistryLogin;
use protocol::release::{Image, Pin};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::stage::{Stage, has, local_image, on_stage, run};

const REGISTRY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/setup/registry.sh");
/// Its encoding holds characters in which URL-safe base64 differs.
const PASSWORD: &str = "p~?>~?>w";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const LAYER_BYTES: usize = 3 << 20;

/// A registry on loopback, gone with this.
struct Registry {
    folder: String,
    address: String,
}

impl Registry {
    fn start(stage: &Stage, account: Option<&str>) -> Option<Self> {
        let mend = "apt-get install docker-registry apache2-utils curl";
        if !has("docker-registry", &["--version"], mend) || !has("curl", &["--version"], mend) {
            return None;
        }
        let folder = stage.folder.path().join("registry").display().to_string();
        let mut arguments = vec!["start", folder.as_str(), "0"];
        arguments.extend(account);
        let address = run(REGISTRY, &arguments);
        Some(Self { folder, address })
    }

    /// Puts a new image of one layer for a platform there, past Docker; its pin.
    fn push(&self, stage: &Stage, platform: &str) -> Image {
        let name = format!("engine/{}", platform.replace('/', "-"));
        let folder = stage.folder.path();
        std::fs::write(folder.join("noise"), noise(LAYER_BYTES)).unwrap();
        let tar = folder.join("layer.tar");
        let (from, to) = (folder.display().to_string(), tar.display().to_string());
        run("tar", &["-C", &from, "-cf", &to, "noise"]);
        let layer = std::fs::read(&tar).unwrap();
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = serde_json::json!({
            "os": os, "architecture": architecture, "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer).as_str()] },
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| {
            self.put_blob(stage, &name, bytes);
            serde_json::json!({ "mediaType": kind, "size": bytes.len(), "digest": digest_of(bytes).as_str() })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
        });
        self.put_manifest(stage, &name, MANIFEST, &manifest)
    }

    /// An index that holds this image alone, for its platform.
    fn push_index(&self, stage: &Stage, image: &Image, platform: &str) -> Image {
        let Pin::Digest(digest) = &image.pin else { panic!("pushed by digest") };
        let name = image.repository().split_once('/').unwrap().1;
        let accept = format!("Accept: {MANIFEST}");
        let url = format!("http://{}/v2/{name}/manifests/{digest}", self.address);
        let manifest = run("curl", &["-sf", "-H", &accept, &url]);
        let (os, architecture) = platform.split_once('/').unwrap();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": MANIFEST, "size": manifest.len(), "digest": digest.as_str(),
                "platform": { "os": os, "architecture": architecture },
            }],
        });
        self.put_manifest(stage, name, INDEX, &index)
    }

    fn put_manifest(&self, stage: &Stage, name: &str, kind: &str, manifest: &Value) -> Image {
        let bytes = manifest.to_string().into_bytes();
        let pin = Pin::Digest(digest_of(&bytes));
        let url = format!("http://{}/v2/{name}/manifests/v1", self.address);
        put(stage, &url, kind, &bytes);
        Image { reference: format!("{}/{name}:v1", self.address), pin }
    }

    fn put_blob(&self, stage: &Stage, name: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{name}/blobs/uploads/", self.address);
        let headers = run("curl", &["-sf", "-X", "POST", "-D", "-", "-o", "/dev/null", &url]);
        let location = headers.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let url = format!("{}&digest={}", location.trim(), digest_of(bytes));
        put(stage, &url, "application/octet-stream", bytes);
    }
}

fn put(stage: &Stage, url: &str, kind: &str, bytes: &[u8]) {
    let file = stage.folder.path().join("body");
    std::fs::write(&file, bytes).unwrap();
    let (kind, body) = (format!("Content-Type: {kind}"), format!("@{}", file.display()));
    run("curl", &["-sf", "-X", "PUT", "-H", &kind, "--data-binary", &body, url]);
}

fn digest_of(bytes: &[u8]) -> Digest {
    format!("sha256:{}", protocol::id::sha256_hex(bytes)).parse().unwrap()
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = Command::new(REGISTRY).args(["stop", &self.folder]).status();
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut noise))
        .unwrap();
    noise
}

/// The platform of this machine and another.
async fn platforms(stage: &Stage) -> (&'static str, &'static str) {
    match stage.docker.info().await.unwrap().architecture.as_str() {
        "arm64" => ("linux/arm64", "linux/amd64"),
        _ => ("linux/amd64", "linux/arm64"),
    }
}

fn failure(update: PullUpdate) -> (PullError, String) {
    match update {
        PullUpdate::Failed { error, message } => (error, message),
        PullUpdate::Done | PullUpdate::Progress { .. } => panic!("{update:?}"),
    }
}

fn unknown_digest() -> Digest {
    format!("sha256:{}", "0".repeat(64)).parse().unwrap()
}

#[test]
fn a_pinned_image_is_pulled_known_by_its_digest_and_removed() {
    on_stage(|stage| async move {
        let Some(registry) = Registry::start(&stage, None) else { return };
        let (here, _) = platforms(&stage).await;
        let image = registry.push(&stage, here);
        assert_eq!(stage.docker.image(&image).await.unwrap(), None);
        let mut pull = stage.docker.pull(&image, None);
        let mut last = None;
        let mut most = 0;
        while let Some(update) = pull.next().await {
            if let PullUpdate::Progress { bytes, total } = update {
                assert!(bytes <= total, "{bytes} of {total}");
                most = most.max(total);
            }
            last = Some(update);
        }
        assert_eq!(last, Some(PullUpdate::Done));
        let facts = stage.docker.image(&image).await.unwrap().unwrap();
        assert_eq!(format!("{}/{}", facts.os, facts.architecture), here);
        assert!(!facts.healthcheck && facts.size_bytes >= LAYER_BYTES as u64, "{facts:?}");
        // Nothing is asked of the registry for an image that is there.
        drop(registry);
        assert_eq!(stage.docker.pull(&image, None).finish().await, PullUpdate::Done);
        for _ in 0..2 {
            stage.docker.remove_image(&image).await.unwrap();
        }
        assert_eq!(stage.docker.image(&image).await.unwrap(), None);
        let (error, message) = failure(stage.docker.pull(&image, None).finish().await);
        assert_eq!(error, PullError::Unreachable, "{message}");
    });
}

#[test]
fn an_image_that_the_registry_does_not_have_is_not_found() {
    on_stage(|stage| async move {
        let Some(registry) = Registry::start(&stage, None) else { return };
        let reference = format!("{}/engine/nothing:v1", registry.address);
        let image = Image { reference, pin: Pin::Digest(unknown_digest()) };
        let (error, message) = failure(stage.docker.pull(&image, None).finish().await);
        assert_eq!(error, PullError::NotFound, "{message}");
        assert!(message.contains("engine/nothing:v1"), "{message}");
    });
}

#[test]
fn an_image_of_another_processor_is_found_out_before_anything_starts() {
    on_stage(|stage| async move {
        let Some(registry) = Registry::start(&stage, None) else { return };
        let (_, elsewhere) = platforms(&stage).await;
        let image = registry.push(&stage, elsewhere);
        let (error, message) = failure(stage.docker.pull(&image, None).finish().await);
        assert_eq!(error, PullError::WrongPlatform, "{message}");
        let network = stage.network().await;
        let spec =
            agent::engine::ContainerSpec { image: image.clone(), ..stage.spec(&network, 0, &[]) };
        let refused = stage.docker.create(&spec).await;
        assert!(matches!(refused, Err(EngineError::WrongPlatform(_))), "{refused:?}");
        stage.docker.remove_image(&image).await.unwrap();

        let index = registry.push_index(&stage, &image, elsewhere);
        let (error, message) = failure(stage.docker.pull(&index, None).finish().await);
        assert_eq!(error, PullError::WrongPlatform, "{message}");
    });
}

#[test]
fn a_registry_that_wants_credentials_refuses_without_them_and_takes_the_right_ones() {
    on_stage(|stage| async move {
        let Some(open) = Registry::start(&stage, None) else { return };
        let (here, _) = platforms(&stage).await;
        let pushed = open.push(&stage, here);
        drop(open);
        let account = format!("pith:{PASSWORD}");
        let Some(registry) = Registry::start(&stage, Some(&account)) else { return };
        let name = pushed.reference.split_once('/').unwrap().1;
        let image = Image { reference: format!("{}/{name}", registry.address), ..pushed };
        let credentials = |password: &str| RegistryLogin {
            registry: registry.address.clone(),
            username: "pith".to_owned(),
            password: password.to_owned(),
        };
        for wrong in [None, Some(credentials("wrong"))] {
            let (error, message) =
                failure(stage.docker.pull(&image, wrong.as_ref()).finish().await);
            assert_eq!(error, PullError::Denied, "{message}");
            assert!(message.contains("registries.toml"), "{message}");
        }
        let right = credentials(PASSWORD);
        let update = stage.docker.pull(&image, Some(&right)).finish().await;
        assert_eq!(update, PullUpdate::Done);
        stage.docker.remove_image(&image).await.unwrap();
    });
}

#[test]
fn dropping_a_pull_ends_it() {
    on_stage(|stage| async move {
        // A registry that takes the connection and never says a word.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let reference = format!("{}/engine/slow:v1", listener.local_addr().unwrap());
        let image = Image { reference, pin: Pin::Digest(unknown_digest()) };
        let pull = stage.docker.pull(&image, None);
        let (mut asked, _) = listener.accept().await.unwrap();
        let mut heard = [0; 4096];
        assert!(asked.read(&mut heard).await.unwrap() > 0);
        drop(pull);
        // Docker hangs up.
        while asked.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
    });
}

#[test]
fn an_image_known_by_its_id_is_never_pulled() {
    on_stage(|stage| async move {
        let image = local_image("pith-demo:v1");
        assert!(stage.docker.image(&image).await.unwrap().is_some());
        assert_eq!(stage.docker.pull(&image, None).finish().await, PullUpdate::Done);
        let missing = Image { pin: Pin::ImageId(unknown_digest()), ..image };
        assert_eq!(stage.docker.image(&missing).await.unwrap(), None);
        let (error, message) = failure(stage.docker.pull(&missing, None).finish().await);
        assert_eq!(error, PullError::NotFound, "{message}");
        assert!(error.is_permanent());
    });
}
