//! The TOML file that says which cluster is meant, how its nodes are reached, and what to run when roles change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::hooks::{Hook, HookEvent, Hooks};

/// What the file and the command line say together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configuration {
    /// Name of the cluster; None: it is found in the database.
    pub(crate) cluster: Option<String>,
    /// Conninfos from the file, by node.
    pub(crate) nodes: BTreeMap<i32, String>,
    /// Conninfos from the command line, of nodes whose number is not known yet.
    pub(crate) seeds: Vec<String>,
    /// What to run when roles change.
    pub(crate) hooks: Hooks,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{}`: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not what we expect.
    #[error("configuration file `{}`: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Nothing says where the cluster is.
    #[error(
        "which cluster? Give `--conninfo` of any one node, or `--config FILE` (or its name in SLONCTL_CONFIG) with the \
         conninfos of nodes"
    )]
    NoNode,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Option<String>,
    #[serde(default)]
    node: BTreeMap<String, NodeTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    conninfo: Option<String>,
    #[serde(default)]
    hooks: BTreeMap<HookEvent, Hook>,
}

impl Configuration {
    /// Reads the file, if one is named.
    pub(crate) fn load(
        file: Option<&Path>,
        cluster: Option<&str>,
        conninfos: &[String],
    ) -> Result<Self, ConfigurationError> {
        let mut configuration = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| ConfigurationError::Read {
                    path: path.to_owned(),
                    source,
                })?;
                let mut read = Self::parse(&text).map_err(|reason| ConfigurationError::Content {
                    path: path.to_owned(),
                    reason,
                })?;
                // An empty parent is the working directory.
                read.hooks.directory = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .map(Path::to_owned);
                read
            }
            None => Self::default(),
        };
        if let Some(name) = cluster {
            configuration.cluster = Some(name.to_owned());
        }
        configuration.seeds = conninfos.to_vec();
        if configuration.seeds.is_empty() && configuration.nodes.is_empty() {
            return Err(ConfigurationError::NoNode);
        }
        Ok(configuration)
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The parser's messages quote the line, which may hold a password: only its position and reason are told.
        let file: File = toml::from_str(text).map_err(|error| {
            let place = error
                .span()
                .map_or_else(String::new, |span| format!("line {}: ", line_of(text, span.start)));
            format!("{place}{}", error.message())
        })?;
        let mut nodes = BTreeMap::new();
        let mut hooks = Hooks::default();
        for (key, table) in file.node {
            let id = key
                .parse::<i32>()
                .ok()
                .filter(|id| *id > 0)
                .ok_or_else(|| format!("`[node.{key}]`: a node is named by its number, as in `[node.1]`"))?;
            if let Some(conninfo) = table.conninfo {
                nodes.insert(id, conninfo);
            }
            if !table.hooks.is_empty() {
                hooks.by_node.insert(id, table.hooks);
            }
        }
        Ok(Self {
            cluster: file.cluster,
            nodes,
            seeds: Vec::new(),
            hooks,
        })
    }
}

/// Number of the line in which byte `offset` lies.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_names_cluster_and_nodes() {
        let read = Configuration::parse(
            "cluster = 'shop'\n[node.1]\nconninfo = 'host=alpha'\n[node.20]\nconninfo = 'host=beta'\n",
        )
        .unwrap();
        assert_eq!(read.cluster.as_deref(), Some("shop"));
        assert_eq!(read.nodes.keys().copied().collect::<Vec<_>>(), [1, 20]);
    }

    #[test]
    fn mistakes_are_located_and_show_no_password() {
        let message = Configuration::parse("cluster = 'shop'\n[node.1]\nconinfo = 'password=geheim'\n").unwrap_err();
        assert!(message.starts_with("line 3: unknown field `coninfo`"), "{message}");
        let message = Configuration::parse("[node.1]\nconninfo = 'password=geheim\n").unwrap_err();
        assert!(
            message.starts_with("line 2: ") && !message.contains("geheim"),
            "{message}"
        );
        assert!(Configuration::parse("[node.one]\n").unwrap_err().contains("[node.1]"));
    }

    #[test]
    fn hooks_belong_to_nodes_and_events() {
        let read =
            Configuration::parse("[node.1]\nhooks.pre_demote = 'vip del'\n[node.1.hooks.fence]\nrun = ['/off']\n")
                .unwrap();
        assert_eq!(
            read.hooks
                .get(1, HookEvent::PreDemote)
                .map(ToString::to_string)
                .as_deref(),
            Some("vip del")
        );
        assert!(read.hooks.get(1, HookEvent::Fence).is_some() && read.hooks.get(2, HookEvent::Fence).is_none());
        let message = Configuration::parse("[node.1.hooks]\npre_demot = 'x'\n").unwrap_err();
        assert!(message.contains("pre_demote"), "{message}");
    }

    #[test]
    fn something_must_say_where_the_cluster_is() {
        assert!(matches!(
            Configuration::load(None, Some("shop"), &[]),
            Err(ConfigurationError::NoNode)
        ));
    }
}
