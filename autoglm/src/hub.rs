//! Fetching checkpoints from the Hugging Face hub into its usual cache, where other programs find
//! them too.
//!
//! Only files that a model is made of are fetched, and only from the top folder. A download that was
//! cut off goes on where it ended. `HF_HOME`, `HF_ENDPOINT` and a stored token are honoured.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};

/// What to fetch, and from where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pull {
    /// `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit; `main` by default.
    pub revision: String,
    /// Another server that speaks the hub's protocol.
    pub endpoint: Option<String>,
    /// Another folder than the hub's usual cache.
    pub cache: Option<PathBuf>,
}

/// What a download tells while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A file begins; it has this many bytes.
    File {
        /// Its name.
        name: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// So many more bytes arrived, those of an earlier attempt included.
    Bytes(u64),
    /// The file is complete.
    Complete,
}

/// What can go wrong when a checkpoint is fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The repository's name is none.
    #[error("`{repo}` is no repository: write owner/name")]
    Name {
        /// What was given.
        repo: String,
    },
    /// The revision's name is none.
    #[error("`{revision}` is no branch, tag or commit")]
    Revision {
        /// What was given.
        revision: String,
    },
    /// The server could not be reached.
    #[error(
        "cannot reach the hub for {repo}: connect to the network and run the same command again, it goes on where it \
         ended; or copy a checkpoint's files into a folder by hand and pass that as --model"
    )]
    Offline {
        /// The repository.
        repo: String,
        /// The library's reason.
        source: Box<ApiError>,
    },
    /// The server does not show the repository or the file to us.
    #[error("the hub refused {what} (status {status}): check the name, the revision and, for a gated model, the token")]
    Refused {
        /// The repository or the file.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// The repository holds no checkpoint.
    #[error("{repo} has no {missing}, so it is no checkpoint this program could open")]
    NoCheckpoint {
        /// The repository.
        repo: String,
        /// The file it lacks.
        missing: &'static str,
    },
    /// A file arrived with another length than announced.
    #[error("{name} has {got} bytes instead of {expected}; run the same command again")]
    Length {
        /// The file.
        name: String,
        /// Announced bytes.
        expected: u64,
        /// Bytes on disk.
        got: u64,
    },
    /// A file could not be fetched.
    #[error("cannot fetch {name}; run the same command again, it goes on where it ended")]
    Fetch {
        /// The file.
        name: String,
        /// The library's reason.
        source: Box<ApiError>,
    },
    /// The cache folder could not be used.
    #[error("cannot use the cache folder {}", .path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Files besides the weights that a model is made of.
const FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

impl Pull {
    /// The main branch of `repo`, into the hub's usual cache.
    #[must_use]
    pub fn new(repo: impl Into<String>) -> Self {
        Self { repo: repo.into(), revision: "main".into(), endpoint: None, cache: None }
    }

    /// Fetches what is not there yet, and tells `each` how it goes. → the checkpoint's directory.
    ///
    /// # Errors
    /// [`PullError`] names the repository or the file. Complete files and the beginning of the one
    /// that was interrupted stay in the cache.
    pub fn fetch(&self, mut each: impl FnMut(Event<'_>)) -> Result<PathBuf, PullError> {
        let files = self.repository()?;
        let info = files.info().map_err(|source| self.unreachable(&self.repo, source))?;
        let names = self.wanted(info.siblings.into_iter().map(|file| file.rfilename))?;
        let mut directory = None;
        for name in &names {
            let path = self.one(&files, name, &mut each)?;
            directory = path.parent().map(Path::to_owned);
        }
        directory.ok_or_else(|| PullError::NoCheckpoint { repo: self.repo.clone(), missing: "config.json" })
    }

    fn repository(&self) -> Result<ApiRepo, PullError> {
        let part = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !text.is_empty() && text.chars().all(plain) && !text.starts_with('.') && !text.contains("..")
        };
        if !self.repo.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name)) {
            return Err(PullError::Name { repo: self.repo.clone() });
        }
        // The library makes a file of the revision's name below the cache's `refs`.
        if !self.revision.split('/').all(part) {
            return Err(PullError::Revision { revision: self.revision.clone() });
        }
        let mut builder = ApiBuilder::from_env().with_progress(false).with_retries(3);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        if let Some(cache) = &self.cache {
            builder = builder.with_cache_dir(cache.clone());
        }
        let api = builder.build().map_err(|source| self.unreachable(&self.repo, source))?;
        Ok(api.repo(Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())))
    }

    /// The files of the repository that a model is made of; weights last, so that a wrong repository
    /// is noticed before gigabytes were fetched.
    fn wanted(&self, names: impl Iterator<Item = String>) -> Result<Vec<String>, PullError> {
        let (mut small, mut weights) = (Vec::new(), Vec::new());
        for name in names {
            // A name with a folder in it would leave the checkpoint's directory.
            let plain = !name.contains(['/', '\\', '\0']);
            if FILES.contains(&name.as_str()) {
                small.push(name);
            } else if plain && name.starts_with("model") && name.ends_with(".safetensors") {
                weights.push(name);
            } else if name == "model.safetensors.index.json" {
                small.push(name);
            }
        }
        let missing = if !small.iter().any(|n| n == "config.json") {
            Some("config.json")
        } else if weights.is_empty() {
            Some("model.safetensors")
        } else {
            None
        };
        if let Some(missing) = missing {
            return Err(PullError::NoCheckpoint { repo: self.repo.clone(), missing });
        }
        small.append(&mut weights);
        Ok(small)
    }

    fn one(&self, files: &ApiRepo, name: &str, each: &mut impl FnMut(Event<'_>)) -> Result<PathBuf, PullError> {
        let mut announced = 0;
        let path =
            files.download_with_progress(name, Teller { each, announced: &mut announced }).map_err(|source| {
                match status(&source) {
                    Some(status) => PullError::Refused { what: name.to_owned(), status },
                    None => PullError::Fetch { name: name.to_owned(), source: Box::new(source) },
                }
            })?;
        let size = std::fs::metadata(&path).map_err(|source| PullError::Cache { path: path.clone(), source })?.len();
        if size != announced {
            // A connection that ends early looks like a complete file to the library. The blob goes,
            // so that the next attempt does not take it for one either.
            let blob = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            for file in [&path, &blob] {
                if let Err(source) = std::fs::remove_file(file)
                    && source.kind() != std::io::ErrorKind::NotFound
                {
                    return Err(PullError::Cache { path: file.clone(), source });
                }
            }
            return Err(PullError::Length { name: name.to_owned(), expected: announced, got: size });
        }
        Ok(path)
    }

    fn unreachable(&self, what: &str, source: ApiError) -> PullError {
        match status(&source) {
            Some(status) => PullError::Refused { what: what.to_owned(), status },
            None => PullError::Offline { repo: self.repo.clone(), source: Box::new(source) },
        }
    }
}

/// The HTTP status of an answer that refused the request.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(inner) => match **inner {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(inner) => status(inner),
        _ => None,
    }
}

/// Passes the library's progress on as events.
struct Teller<'a, F> {
    each: &'a mut F,
    announced: &'a mut u64,
}

impl<F: FnMut(Event<'_>)> Progress for Teller<'_, F> {
    fn init(&mut self, size: usize, filename: &str) {
        *self.announced = size as u64;
        (self.each)(Event::File { name: filename, bytes: size as u64 });
    }

    fn update(&mut self, size: usize) {
        (self.each)(Event::Bytes(size as u64));
    }

    fn finish(&mut self) {
        (self.each)(Event::Complete);
    }
}
