//! Whose proxy: ours, and those it is held against, each with one thread.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{BACKEND_PORT, BACKENDS, Mode, PROXY_PORT, SOON};
use crate::fleet::binaries;
use crate::wait::until_true;

/// See the file's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// `pith-agent proxy`.
    Ours,
    /// HAProxy.
    Haproxy,
    /// nginx as it comes: a connection to a backend for each request.
    Nginx,
    /// nginx told to keep connections to backends.
    NginxKeeping,
}

const PEERS: [(Peer, &str); 4] = [
    (Peer::Ours, "ours"),
    (Peer::Haproxy, "haproxy"),
    (Peer::Nginx, "nginx"),
    (Peer::NginxKeeping, "nginx-keeping"),
];

impl Peer {
    pub(super) fn name(self) -> &'static str {
        PEERS.iter().find(|(peer, _)| *peer == self).map_or("", |(_, name)| *name)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        PEERS.iter().find(|(_, one)| *one == name).map(|(peer, _)| *peer)
    }

    /// Its process; what it keeps lies in `dir`.
    pub(super) fn start(self, dir: &Path, mode: Mode) -> Child {
        match self {
            Self::Ours => ours(dir, mode),
            Self::Haproxy => haproxy(dir, mode),
            Self::Nginx => nginx(dir, "", ""),
            Self::NginxKeeping => nginx(
                dir,
                "    keepalive 128;\n",
                "      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n",
            ),
        }
    }
}

fn ours(dir: &Path, mode: Mode) -> Child {
    let config = dir.join("agent.toml");
    let text = format!(
        "name = \"bench\"\nstate_dir = \"{0}\"\nruntime_dir = \"{0}\"\ntrust_root = \"{0}/none\"\n[broker]\naddress = \"127.0.0.1:1\"\ntoken_file = \"{0}/none\"\n",
        dir.display()
    );
    fs::write(&config, text).expect("a file can be written");
    let child = Command::new(binaries().join("pith-agent"))
        .args(["proxy", "--config"])
        .arg(&config)
        .stderr(Stdio::null())
        .spawn();
    let child = child.expect("pith-agent can be run");
    let socket = dir.join("proxy.sock");
    until_true("the proxy's socket", SOON, || UnixStream::connect(&socket).is_ok());
    let backend = |n: u16| {
        format!(
            "{{\"id\":\"b{n}\",\"address\":\"127.0.0.1:{}\",\"weight\":1,\"state\":\"active\",\"release\":\"r\"}}",
            BACKEND_PORT + n
        )
    };
    let backends: Vec<String> = (0..BACKENDS).map(backend).collect();
    let request = format!(
        "{{\"op\":\"set\",\"table\":{{\"version\":1,\"routes\":[{{\"id\":\"bench\",\"listen\":[\"127.0.0.1:{PROXY_PORT}\"],\"protocol\":\"{}\",\"backends\":[{}]}}]}}}}\n",
        mode.protocol(),
        backends.join(",")
    );
    let mut stream = UnixStream::connect(&socket).expect("the proxy's socket");
    stream.write_all(request.as_bytes()).expect("the proxy takes a table");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("the proxy answers");
    child
}

fn haproxy(dir: &Path, mode: Mode) -> Child {
    let servers: Vec<String> =
        (0..BACKENDS).map(|n| format!("  server b{n} 127.0.0.1:{}", BACKEND_PORT + n)).collect();
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode {}\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option {}\nlisten bench\n  bind 127.0.0.1:{PROXY_PORT}\n  balance roundrobin\n{}\n",
        mode.protocol(),
        if mode.protocol() == "http" { "http-keep-alive" } else { "tcp-smart-accept" },
        servers.join("\n")
    );
    let config = dir.join("haproxy.cfg");
    fs::write(&config, text).expect("a file can be written");
    Command::new("haproxy")
        .arg("-f")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy can be run")
}

/// One process, as a worker would outlive a master that is killed; it runs as the user who asked, to read what is ours.
fn nginx(dir: &Path, upstream: &str, location: &str) -> Child {
    let servers: String =
        (0..BACKENDS).map(|n| format!("    server 127.0.0.1:{};\n", BACKEND_PORT + n)).collect();
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {dir}/{name};\n"))
        .concat();
    let text = format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n{temporary}\
         \x20 upstream bench {{\n{servers}{upstream}  }}\n\
         \x20 server {{\n    listen 127.0.0.1:{PROXY_PORT};\n    location / {{\n      proxy_pass http://bench;\n{location}    }}\n  }}\n}}\n"
    );
    let config = format!("{dir}/nginx.conf");
    fs::write(&config, text).expect("a file can be written");
    Command::new("nginx")
        .args(["-c", &config, "-e", &format!("{dir}/error.log")])
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx can be run")
}
