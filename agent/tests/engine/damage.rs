//! What a container was to run, the removal of an image under all its names, and an image that comes from a file.

use agent::engine::{Engine as _, PullError, PullUpdate};

use super::stage::{Stage, local_image, on_stage, run};

/// An image of a script, what runs it behind a link, and nothing else; two names.
fn image(stage: &Stage, script: &str) -> String {
    let folder = stage.folder.path().join("contents");
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    std::fs::write(folder.join("script"), script).unwrap();
    std::fs::write(folder.join("shell"), "").unwrap();
    let link = folder.join("bin/sh");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("../shell", link).unwrap();
    let (from, tar) = (folder.display().to_string(), stage.folder.path().join("image.tar"));
    let tar = tar.display().to_string();
    run("tar", &["-C", &from, "-cf", &tar, "."]);
    let name = format!("pith-engine-{}:one", stage.ours.node.as_str());
    let (path, entrypoint) = ("ENV PATH=/bin:/", "ENTRYPOINT [\"script\"]");
    run("docker", &["import", "-c", path, "-c", entrypoint, &tar, &name]);
    run("docker", &["tag", &name, &name.replace(":one", ":two")]);
    name
}

#[test]
fn the_program_of_a_container_is_read_with_what_runs_it_and_its_image_goes_under_all_its_names() {
    on_stage(|stage| async move {
        let network = stage.network().await;
        for (script, expected) in [
            ("#!/bin/sh -e\n", &[("/script", 13), ("/bin/sh", 0)][..]),
            ("#!/none\n", &[("/script", 8)]),
        ] {
            let name = image(&stage, script);
            let image = local_image(&name);
            let spec = stage.spec(&network, 0, &[]);
            let spec = agent::engine::ContainerSpec { image: image.clone(), ..spec };
            let id = stage.docker.create(&spec).await.unwrap();
            let programs = stage.docker.programs(&id).await.unwrap();
            let seen: Vec<_> = programs.iter().map(|p| (p.path.as_str(), p.size)).collect();
            assert_eq!(seen, expected);
            assert_eq!(programs[0].head, script.as_bytes());
            stage.docker.remove(&id).await.unwrap();
            assert_eq!(stage.docker.programs(&id).await.unwrap(), []);
            for _ in 0..2 {
                stage.docker.discard_image(&image).await.unwrap();
            }
            assert_eq!(stage.docker.image(&image).await.unwrap(), None);
        }
    });
}

#[test]
fn an_image_comes_from_a_file_and_a_file_that_is_none_is_refused() {
    on_stage(|stage| async move {
        let name = image(&stage, &"# a script of more than one piece\n".repeat(100_000));
        let image = local_image(&name);
        let file = stage.folder.path().join("saved.tar");
        run("docker", &["save", "-o", &file.display().to_string(), &name]);
        stage.docker.discard_image(&image).await.unwrap();
        assert_eq!(stage.docker.image(&image).await.unwrap(), None);
        let none = stage.folder.path().join("none.tar");
        std::fs::write(&none, [b'x'; 4096]).unwrap();
        let refused = stage.docker.load(&image, &none).finish().await;
        let PullUpdate::Failed { error: PullError::Other, message } = &refused else {
            panic!("{refused:?}")
        };
        assert!(message.contains("does not take the archive"), "{message}");
        assert_eq!(stage.docker.load(&image, &file).finish().await, PullUpdate::Done);
        assert!(stage.docker.image(&image).await.unwrap().is_some());
        stage.docker.discard_image(&image).await.unwrap();
    });
}
