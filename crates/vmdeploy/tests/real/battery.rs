//! The acts, one after the other; after each one a plan has nothing to do, and what is there is noted.

use crate::ground::Ground;
use crate::specs::Specs;
use crate::state::State;
use libtest_mimic::Failed;
use std::io::Write as _;

/// What was there after each act.
pub type Acts = Vec<(String, State)>;

/// Runs the battery by one transport, and leaves nothing.
///
/// # Errors
/// What failed; what the battery made is removed then, too.
pub fn run(ground: &Ground, transport: &str) -> Result<Acts, Failed> {
    prepare(ground)?;
    let mut battery = Battery { ground, specs: Specs::new(ground, transport), acts: Vec::new() };
    let played = battery.play();
    let acts = battery.acts;
    let cleaned = clean_up(ground);
    played?;
    cleaned?;
    Ok(acts)
}

/// Makes the pool and the image; refuses a range that is in use.
pub fn prepare(ground: &Ground) -> Result<(), Failed> {
    let settings = &ground.settings;
    let there: Vec<u32> = ground.guests()?.into_keys().collect();
    if !there.is_empty() {
        return Err(format!("the range is in use: there are VMs {there:?}").into());
    }
    if ground.has(&format!("/pools/{}", settings.pool)) {
        return Err(format!(
            "the pool {} is there already; name another in VMDEPLOY_REAL_POOL",
            settings.pool
        )
        .into());
    }
    ground.call("post", "/pools", &[&format!("poolid={}", settings.pool)])?;
    // No operating system is needed: a guest that finds nothing to boot runs all the same.
    let mut image = std::fs::File::create(ground.user.path("tiny.raw"))?;
    image.write_all(&[0; 4096])?;
    image.set_len(8 << 20)?;
    Ok(())
}

/// Removes what the battery may have made, whatever became of it.
///
/// # Errors
/// Something is left.
pub fn clean_up(ground: &Ground) -> Result<(), Failed> {
    remove_guests_and_images(ground)?;
    if ground.has(&format!("/pools/{}", ground.settings.pool)) {
        ground.call("delete", &format!("/pools/{}", ground.settings.pool), &[])?;
    }
    let left = State::of(ground)?;
    if left == State::default() { Ok(()) } else { Err(format!("this is left: {left:#?}").into()) }
}

/// Removes the guests of the range, and the images that were uploaded.
pub fn remove_guests_and_images(ground: &Ground) -> Result<(), Failed> {
    let node = &ground.node;
    for vmid in ground.guests()?.into_keys() {
        let base = format!("/nodes/{node}/qemu/{vmid}");
        let status = ground.get(&format!("{base}/status/current"))?;
        if status["status"] != "stopped" {
            ground.call("post", &format!("{base}/status/stop"), &[])?;
        }
        ground.call("delete", &base, &["purge=1"])?;
    }
    let storage = &ground.settings.images;
    let placed = ground.get(&format!("/nodes/{node}/storage/{storage}/content"))?;
    let volumes = placed.as_array().into_iter().flatten().filter_map(|row| row["volid"].as_str());
    let is_ours = |volume: &&str| volume.contains(":import/tiny-") || volume.ends_with(":import/tiny.raw");
    for volume in volumes.filter(is_ours) {
        ground.call("delete", &format!("/nodes/{node}/storage/{storage}/content/{volume}"), &[])?;
    }
    Ok(())
}

struct Battery<'g> {
    ground: &'g Ground,
    specs: Specs<'g>,
    acts: Acts,
}

impl Battery<'_> {
    fn play(&mut self) -> Result<(), Failed> {
        for (stage, act) in [(1, "deploy"), (2, "update"), (3, "disks added and grown"), (4, "clone")] {
            self.deploys(act, "main.yaml", &self.specs.main(stage))?;
        }
        self.adopts()?;
        self.keeps()?;
        self.resumes()?;
        self.rolls_back()?;
        self.destroys()
    }

    fn note(&mut self, act: &str) -> Result<(), Failed> {
        let state = State::of(self.ground)?;
        self.acts.push((act.to_owned(), state));
        Ok(())
    }

    fn deploys(&mut self, act: &str, file: &str, spec: &str) -> Result<(), Failed> {
        self.ground.user.write(file, spec);
        self.ground.done(&["deploy", file, "--yes"])?;
        self.nothing_to_do(file)?;
        self.note(act)
    }

    fn nothing_to_do(&self, file: &str) -> Result<(), Failed> {
        self.ground.done(&["plan", file, "--detailed-exitcode"]).map(drop)
    }

    /// A guest that was made by hand gets its ownership marker, and nothing else changes.
    fn adopts(&mut self) -> Result<(), Failed> {
        let (ground, vmid) = (self.ground, (self.specs.first + 7).to_string());
        let disk = format!("scsi0={}:1,discard=on", ground.settings.storage);
        let nic = format!("net0=e1000,bridge={},firewall=1", ground.settings.bridge);
        let params = [
            format!("vmid={vmid}"),
            "name=by-hand".to_owned(),
            "memory=72".to_owned(),
            "machine=q35".to_owned(),
            "cpu=kvm64,flags=+aes".to_owned(),
            "tags=hand".to_owned(),
            "ide2=none,media=cdrom".to_owned(),
            "nameserver=192.0.2.53".to_owned(),
            disk,
            nic,
        ];
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        ground.call("post", &format!("/nodes/{}/qemu", ground.node), &params)?;
        self.note("made by hand")?;
        let spec = ground.done(&["adopt", "--project", "real-adopted", &vmid])?;
        let spec = spec.replacen(
            "project: real-adopted\n",
            &format!("project: real-adopted\ntransport: {}\n", self.transport()),
            1,
        );
        self.deploys("adopt", "adopted.yaml", &spec)
    }

    fn transport(&self) -> &'static str {
        self.specs.transport()
    }

    /// A VM is made anew, and the disk that is kept is the same as before.
    fn keeps(&mut self) -> Result<(), Failed> {
        let (ground, holder) = (self.ground, (self.specs.first + 6).to_string());
        let params = [format!("vmid={holder}"), "name=holder".to_owned(), "memory=16".to_owned()];
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        ground.call("post", &format!("/nodes/{}/qemu", ground.node), &params)?;
        self.deploys("a VM with a disk that is kept", "kept.yaml", &self.specs.kept())?;
        ground.done(&["deploy", "kept.yaml", "--yes", "--replace", "kept"])?;
        self.nothing_to_do("kept.yaml")?;
        self.note("replace")
    }

    /// A run that is killed is finished by `resume`.
    fn resumes(&mut self) -> Result<(), Failed> {
        self.ground.user.write("killed.yaml", &self.specs.killed());
        if self.ground.kill_after(4, &["deploy", "killed.yaml", "--yes"])? {
            self.ground.done(&["resume"])?;
        }
        self.nothing_to_do("killed.yaml")?;
        self.note("kill -9 and resume")?;
        self.ground.done(&["destroy", "killed.yaml", "--yes"])?;
        self.note("destroy of what was resumed")
    }

    /// What a run that is killed has made is taken away by `resume --rollback`.
    fn rolls_back(&mut self) -> Result<(), Failed> {
        if self.ground.kill_after(4, &["deploy", "killed.yaml", "--yes"])? {
            self.ground.ends(&["resume", "--rollback", "--yes"], 5)?;
        } else {
            self.ground.done(&["destroy", "killed.yaml", "--yes"])?;
        }
        self.note("kill -9 and rollback")
    }

    fn destroys(&mut self) -> Result<(), Failed> {
        let ground = self.ground;
        // The kept disk is the holder's from now on.
        for file in ["main.yaml", "adopted.yaml", "kept.yaml"] {
            ground.done(&["destroy", file, "--yes"])?;
        }
        self.note("destroy")
    }
}
