//! The first bytes of what a container runs, through Docker's archives of files. Whether it runs or not makes no difference.

use bollard::Docker as Client;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;

use super::{Docker, QUERY_DEADLINE_MS, observe, within};
use crate::engine::error::EngineError;
use crate::engine::program::{HEAD_BYTES, MAX_PROGRAMS, Program};

/// Where a program without a folder is looked for, unless the container says (as Docker does).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// One link leads to another this often.
const MAX_LINKS: usize = 8;
/// A header of a tar archive, and what its contents are padded to (POSIX, ustar).
const BLOCK: usize = 512;
/// Read of an archive: extended headers, the header, the first bytes.
const MAX_BYTES: usize = 16 * BLOCK + HEAD_BYTES;

pub(super) async fn of_container(docker: &Docker, id: &str) -> Result<Vec<Program>, EngineError> {
    let mut programs: Vec<Program> = Vec::new();
    let Some(mut candidates) = first(docker, id).await? else { return Ok(programs) };
    let client = docker.client()?;
    while programs.len() < MAX_PROGRAMS {
        let Some(program) = find(client, id, &candidates).await? else { break };
        let next = program.run_by().filter(|path| programs.iter().all(|p| p.path != *path));
        programs.push(program);
        let Some(next) = next else { break };
        candidates = vec![next];
    }
    Ok(programs)
}

/// Where the program may be; none: the container is gone.
async fn first(docker: &Docker, id: &str) -> Result<Option<Vec<String>>, EngineError> {
    let Some(seen) = observe::inspect(docker, id).await? else { return Ok(None) };
    let config = seen.config.unwrap_or_default();
    let folder = config.working_dir.unwrap_or_default();
    let env = config.env.unwrap_or_default();
    let path = env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(PATH);
    Ok(Some(places(&seen.path.unwrap_or_default(), &folder, path)))
}

fn places(program: &str, folder: &str, path: &str) -> Vec<String> {
    match program {
        "" => Vec::new(),
        _ if program.starts_with('/') => vec![program.to_owned()],
        _ if program.contains('/') => vec![joined(folder, program)],
        _ => path.split(':').map(|folder| joined(folder, program)).collect(),
    }
}

fn joined(folder: &str, name: &str) -> String {
    match folder.trim_matches('/') {
        "" => format!("/{name}"),
        folder => format!("/{folder}/{name}"),
    }
}

/// The first of these that is a file.
async fn find(
    client: &Client,
    id: &str,
    candidates: &[String],
) -> Result<Option<Program>, EngineError> {
    for candidate in candidates {
        let mut path = candidate.clone();
        for _ in 0..MAX_LINKS {
            match beginning(client, id, &path).await? {
                Some(Entry::File { size, head }) => {
                    return Ok(Some(Program { path: candidate.clone(), size, head }));
                }
                Some(Entry::Link(target)) => path = beside(&path, &target),
                Some(Entry::Other) | None => break,
            }
        }
    }
    Ok(None)
}

/// Where a link leads.
fn beside(path: &str, target: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if target.starts_with('/') { target.to_owned() } else { format!("{folder}/{target}") }
}

/// None: nothing is there.
async fn beginning(client: &Client, id: &str, path: &str) -> Result<Option<Entry>, EngineError> {
    let options = query::DownloadFromContainerOptionsBuilder::new().path(path).build();
    let mut pieces = Box::pin(client.download_from_container(id, Some(options)));
    let collect = async {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_BYTES
            && let Some(piece) = pieces.next().await
        {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    };
    match within(QUERY_DEADLINE_MS, collect).await {
        Ok(bytes) => Ok(Some(entry(&bytes))),
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File { size: u64, head: Vec<u8> },
    Link(String),
    Other,
}

/// The first entry of an archive; headers that only say more of it are passed over.
fn entry(archive: &[u8]) -> Entry {
    let mut rest = archive;
    loop {
        let (Some(header), Some(contents)) = (rest.get(..BLOCK), rest.get(BLOCK..)) else {
            return Entry::Other;
        };
        let size = size(&header[124..136]);
        match header[156] {
            b'0' | 0 => {
                let len = usize::try_from(size).map_or(HEAD_BYTES, |size| size.min(HEAD_BYTES));
                // An answer that ended early says nothing about the file.
                let head = contents.get(..len).map(<[u8]>::to_vec);
                return head.map_or(Entry::Other, |head| Entry::File { size, head });
            }
            b'2' => {
                let name = header[157..257].split(|byte| *byte == 0).next().unwrap_or_default();
                return Entry::Link(String::from_utf8_lossy(name).into_owned());
            }
            b'x' | b'g' => {
                let padded = usize::try_from(size.div_ceil(BLOCK as u64)).ok();
                let Some(next) = padded.and_then(|n| contents.get(n.checked_mul(BLOCK)?..)) else {
                    return Entry::Other;
                };
                rest = next;
            }
            _ => return Entry::Other,
        }
    }
}

/// Octal digits; more than eight GiB does not occur.
fn size(field: &[u8]) -> u64 {
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0, |sum, digit| sum << 3 | u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, size: usize, link: &str) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header
    }

    #[test]
    fn the_first_file_of_an_archive_is_read_past_its_extended_headers() {
        let mut archive = header(b'x', 20, "");
        archive.extend([b'a'; BLOCK]);
        archive.extend(header(b'0', 5, ""));
        archive.extend(b"hello");
        archive.resize(3 * BLOCK + 2 * BLOCK, 0);
        assert_eq!(entry(&archive), Entry::File { size: 5, head: b"hello".to_vec() });
        assert_eq!(entry(&header(b'2', 0, "busybox")), Entry::Link("busybox".to_owned()));
        assert_eq!(entry(&header(b'5', 0, "")), Entry::Other);
        assert_eq!(entry(&archive[..700]), Entry::Other);
    }

    #[test]
    fn a_program_is_looked_for_where_the_container_would() {
        assert_eq!(places("/app", "/srv", PATH), ["/app"]);
        assert_eq!(places("bin/app", "/srv/", PATH), ["/srv/bin/app"]);
        assert_eq!(places("app", "", "/:/usr/bin"), ["/app", "/usr/bin/app"]);
        assert_eq!(beside("/bin/sh", "busybox"), "/bin/busybox");
        assert_eq!(beside("/bin/sh", "/usr/bin/dash"), "/usr/bin/dash");
    }
}
