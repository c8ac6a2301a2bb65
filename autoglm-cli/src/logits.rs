//! `autoglm logits`: the numbers, for comparison with another implementation.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use autoglm::TokenId;
use serde::Deserialize;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::error::Error;
use crate::model::Options;
use crate::run::read_medium;
use crate::unfinished::{publish, target, temporary, unwritable};

/// Write the logits of a prompt to a safetensors file
///
/// The request is a JSON file: {"input_ids": […], "images": ["a.png"], "audio": ["a.wav"], "greedy": N}. Only input_ids is
/// required. The placeholder id of each picture and of each sound stands once; paths are relative to the request. The answer
/// holds `logits` F32 [n, vocab] for every position after expansion, `position_ids` I64 [3, n] and, when
/// asked for, `greedy_ids` I64 [N], which do not stop at an end token. A run that is interrupted may leave
/// its unfinished answer beside FILE.safetensors, as `.autoglm-logits-*`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checkpoint directory in the Hugging Face layout [default: the tiny checkpoint built in]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The request
    #[arg(long, value_name = "FILE.json")]
    request: PathBuf,
    /// The answer; written whole or not at all
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    input_ids: Vec<u32>,
    #[serde(default)]
    images: Vec<PathBuf>,
    #[serde(default)]
    audio: Vec<PathBuf>,
    #[serde(default)]
    greedy: usize,
}

/// A request of a million ids is below this.
const REQUEST_BYTES: u64 = 16 << 20;

/// Runs the command.
pub(crate) fn logits(args: &Args) -> Result<(), Error> {
    let request = read_request(&args.request)?;
    // Before what takes long: opening may convert weights, and pictures are encoded.
    let target = target(&args.out)?;
    let file = temporary(&target, ".autoglm-logits-")?;
    let model = args.options.open(args.model.as_ref())?;
    let folder = args.request.parent().unwrap_or(Path::new(""));
    let ids: Vec<TokenId> = request.input_ids.iter().map(|id| TokenId(*id)).collect();
    let read = |path: &PathBuf| read_medium(&folder.join(path));
    let mut prompt = model.prompt(&ids, request.images.iter().map(read), request.audio.iter().map(read))?;
    let context = model.context();
    // The last of the tokens is not fed back, so it needs no room.
    if request.greedy > context.saturating_sub(prompt.len()) + 1 {
        return Err(Error::LongAnswer {
            path: args.request.clone(),
            greedy: request.greedy,
            rows: prompt.len(),
            context,
        });
    }
    let mut answer = Answer::start(target, file, prompt.positions(), model.vocab_size(), request.greedy)?;
    prompt.logits(|rows| answer.push(rows))?;
    let greedy = prompt.greedy(request.greedy)?;
    answer.finish(&greedy)
}

fn read_request(path: &Path) -> Result<Request, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(read)?;
    if !kind.is_file() {
        return Err(read(std::io::Error::other("it is no regular file")));
    }
    if kind.len() > REQUEST_BYTES {
        return Err(Error::LargeRequest { path: path.to_owned(), bytes: kind.len(), limit: REQUEST_BYTES });
    }
    let text = std::fs::read(path).map_err(read)?;
    let request: Request =
        serde_json::from_slice(&text).map_err(|source| Error::Request { path: path.to_owned(), source })?;
    if request.input_ids.is_empty() {
        return Err(Error::EmptyRequest { path: path.to_owned(), why: "input_ids is empty" });
    }
    Ok(request)
}

/// A safetensors file that is written row by row: a 9-billion-parameter model's logits for one
/// screenshot are 2 GB, which no phone would want to hold.
struct Answer {
    path: PathBuf,
    file: NamedTempFile,
    /// Where `greedy_ids` goes. They are known last but lie before the logits, whose numbers are
    /// narrower and would leave them unaligned.
    greedy_at: u64,
    bytes: Vec<u8>,
}

impl Answer {
    fn start(
        path: PathBuf,
        mut file: NamedTempFile,
        positions: &[[u32; 3]],
        vocab_size: usize,
        greedy: usize,
    ) -> Result<Self, Error> {
        let [n, vocab_size, greedy] = [positions.len(), vocab_size, greedy].map(|count| count as u64);
        let positions_end = 3 * n * 8;
        let greedy_end = positions_end + greedy * 8;
        let logits_end = greedy_end + n * vocab_size * 4;
        let mut header = json!({
            "position_ids": {"dtype": "I64", "shape": [3, n], "data_offsets": [0, positions_end]},
            "logits": {"dtype": "F32", "shape": [n, vocab_size], "data_offsets": [greedy_end, logits_end]},
        });
        if greedy > 0 {
            let offsets = [positions_end, greedy_end];
            header["greedy_ids"] = json!({"dtype": "I64", "shape": [greedy], "data_offsets": offsets});
        }
        let mut header = header.to_string().into_bytes();
        // The format pads the header with spaces so that the data begin at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut start = (header.len() as u64).to_le_bytes().to_vec();
        start.extend_from_slice(&header);
        for axis in 0..3 {
            start.extend(positions.iter().flat_map(|p| i64::from(p[axis]).to_le_bytes()));
        }
        let greedy_at = start.len() as u64;
        let written = file.write_all(&start).and_then(|()| file.seek(SeekFrom::Start(greedy_at + greedy * 8)));
        written.map_err(|source| unwritable(&path, &source))?;
        Ok(Self { path, file, greedy_at, bytes: Vec::new() })
    }

    fn push(&mut self, rows: &[f32]) -> Result<(), Error> {
        self.bytes.clear();
        self.bytes.extend(rows.iter().flat_map(|v| v.to_le_bytes()));
        self.file.write_all(&self.bytes).map_err(|source| unwritable(&self.path, &source))
    }

    /// Writes the greedy ids, then gives the file its name: an interrupted run leaves nothing behind
    /// under it.
    fn finish(mut self, greedy: &[TokenId]) -> Result<(), Error> {
        let write = |source| unwritable(&self.path, &source);
        let ids: Vec<u8> = greedy.iter().flat_map(|id| i64::from(id.0).to_le_bytes()).collect();
        self.file.seek(SeekFrom::Start(self.greedy_at)).map_err(write)?;
        self.file.write_all(&ids).map_err(write)?;
        publish(self.file, &self.path)
    }
}
