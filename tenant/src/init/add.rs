//! `bootkeep init --add`: what a home of an earlier release lacks.

use std::path::{Path, PathBuf};

use serde_yaml::Mapping;

use super::{
    absolute, keys,
    plan::{Plan, Planned},
    templates, write_all, Made,
};
use crate::{
    files::{self, PUBLIC},
    Error, Home,
};

/// Largest configuration file that is read (bytes).
const MAX_CONFIG: u64 = 256 * 1024;

/// Makes what is missing; what is there is not touched but for new lines at the end of configuration files.
pub(super) fn add(home: &Home) -> Result<Made, Error> {
    let config = home.config()?;
    let folder = absolute(home.folder())?;
    let mut plan = Plan::default();
    for key in keys::KEYS {
        key.plan_missing(&folder, &mut plan)?;
    }
    let changed: Vec<Planned> = [
        extended(&folder, "verifier/verifier.yaml", |_| {
            templates::verifier_keys(&config.ca).to_vec()
        })?,
        extended(&folder, "ca/ca.yaml", |yaml| {
            let crl = yaml.get("crl_url").and_then(|url| url.as_str());
            crl.map_or_else(Vec::new, |crl| templates::ca_urls(crl).to_vec())
        })?,
        agent(&folder)?,
    ]
    .into_iter()
    .flatten()
    .collect();
    write_all(&folder, &plan.0)?;
    for file in &changed {
        files::replace(&folder.join(&file.path), &file.contents, file.mode)?;
    }
    let paths = |files: Vec<Planned>| files.into_iter().map(|file| file.path).collect();
    Ok(Made {
        files: paths(plan.0),
        changed: paths(changed),
        home: folder,
        node_urls: Vec::new(),
    })
}

/// A configuration file as it is, if it is in this home: a service may have been moved away.
fn configuration(folder: &Path, name: &str) -> Result<Option<(String, Mapping)>, Error> {
    let path = folder.join(name);
    let text = match files::read_text(&path, MAX_CONFIG) {
        Err(Error::NotFound(_)) => return Ok(None),
        other => other?,
    };
    let yaml = serde_yaml::from_str(&text)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    Ok(Some((text.to_string(), yaml)))
}

fn extended(
    folder: &Path,
    name: &str,
    wanted: impl Fn(&Mapping) -> Vec<(&'static str, String)>,
) -> Result<Option<Planned>, Error> {
    let Some((text, yaml)) = configuration(folder, name)? else {
        return Ok(None);
    };
    let mut missing = wanted(&yaml);
    missing.retain(|(key, _)| !yaml.contains_key(*key));
    Ok(appended(name, text, &templates::lines(&missing)))
}

fn agent(folder: &Path) -> Result<Option<Planned>, Error> {
    let name = "node/agent.yaml";
    Ok(configuration(folder, name)?
        .filter(|(_, yaml)| !yaml.contains_key("revocation"))
        .and_then(|(text, _)| appended(name, text, templates::REVOCATION)))
}

fn appended(name: &str, mut text: String, lines: &str) -> Option<Planned> {
    if lines.is_empty() {
        return None;
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(lines);
    Some(Planned {
        path: PathBuf::from(name),
        contents: text.into_bytes().into(),
        mode: PUBLIC,
    })
}
