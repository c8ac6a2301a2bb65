//! `autoglm run`: one user turn, one streamed reply.

use std::io::Write;
use std::path::{Path, PathBuf};

use autoglm::{Generate, Model, Outlook, Part, Request, Sampling, Stats, Thinking, Tier};
use clap::ValueEnum;

use crate::error::Error;
use crate::model::Options;
use crate::stats;

/// Show the model pictures, say or write a request, and print its reply as it comes
///
/// The pictures, the sounds and then the text, each in the given order, form one user turn. Without a
/// sampling option the reply is the most probable one. Standard output is the generated text alone, tags included.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Checkpoint directory in the Hugging Face layout [default: the tiny checkpoint built in]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// A PNG, JPEG or WebP file; may be given several times
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A WAV, FLAC or MP3 file; may be given several times
    #[cfg(feature = "audio")]
    #[arg(long, value_name = "FILE")]
    audio: Vec<PathBuf>,
    /// Directory of a GLM-ASR checkpoint that writes the sounds down for a model without ears
    #[cfg(feature = "audio")]
    #[arg(long, value_name = "DIR", requires = "audio")]
    asr_model: Option<PathBuf>,
    /// Force nothing: the model thinks before it answers (the default)
    #[arg(long, conflicts_with_all = ["no_think", "tier", "thinking_budget"])]
    think: bool,
    /// Force an empty thought, so that the model answers at once
    #[arg(long)]
    no_think: bool,
    /// How much of the model the request gets
    #[arg(long, value_enum, value_name = "TIER", default_value = "deep")]
    tier: Named,
    /// Tokens that the model may think; a thought that goes on is closed, and the model answers [default: no limit]
    #[arg(long, value_name = "N")]
    thinking_budget: Option<usize>,
    /// Tokens after which the reply ends in any case
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    max_new_tokens: usize,
    #[command(flatten)]
    options: Options,
    #[cfg(feature = "kvcache")]
    #[command(flatten)]
    pin: crate::pin::Pin,
    /// Sample at this temperature; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Sample among the most probable tokens that hold this share of the probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Sample among this many of the most probable tokens; 0 is off, as if it was not given
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample among tokens at least this share as probable as the most probable one
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Lower a token's logit by this for each time it was generated
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Seed of the sampler; without a temperature, sample at 1
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Choose threads, cores and clocks by the device's heat. Moves this program's own threads and no files of the system, and
    /// puts them back; what does not move is told on standard error. Answers stay the same. Meant for phones: a computer
    /// without a sensor of its body gets slow
    #[cfg(feature = "power")]
    #[arg(long)]
    power: bool,
    /// Print one line of JSON with counts, seconds and bytes to standard error
    #[arg(long)]
    stats: bool,
    #[cfg_attr(feature = "audio", doc = "What to ask; may be left out where it is spoken")]
    #[cfg_attr(not(feature = "audio"), doc = "What to ask")]
    #[cfg_attr(feature = "audio", arg(value_name = "PROMPT", required_unless_present = "audio"))]
    #[cfg_attr(not(feature = "audio"), arg(value_name = "PROMPT", required = true))]
    prompt: Option<String>,
}

/// A tier as an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    /// No thought, and half of the rows of pictures unless --keep says otherwise
    Fast,
    /// Everything that the other options allow
    Deep,
    /// The fast one where --power says that little is left, and otherwise the deep one
    Auto,
}

impl Args {
    /// The tier for this request, which is all that there is of the conversation.
    fn tier(&self, prompt: Option<&str>, outlook: &Outlook) -> Tier {
        let tier = match self.tier {
            Named::Fast => Tier::Fast,
            Named::Deep => Tier::Deep,
            Named::Auto => Tier::Auto,
        };
        let characters = prompt.map_or(0, |prompt| prompt.chars().count());
        tier.for_request(&Request { first: true, characters }, outlook)
    }

    fn sampling(&self) -> Sampling {
        let mut sampling = Sampling::greedy();
        let samples =
            self.top_p.is_some() || self.top_k.is_some_and(|k| k > 0) || self.min_p.is_some() || self.seed.is_some();
        // Asking for a way to sample without a temperature means the model's own distribution.
        if let Some(temperature) = self.temperature.or(samples.then_some(1.0)) {
            sampling = sampling.temperature(temperature);
        }
        if let Some(p) = self.top_p {
            sampling = sampling.top_p(p);
        }
        if let Some(k) = self.top_k {
            sampling = sampling.top_k(k);
        }
        if let Some(p) = self.min_p {
            sampling = sampling.min_p(p);
        }
        if let Some(penalty) = self.frequency_penalty {
            sampling = sampling.frequency_penalty(penalty);
        }
        if let Some(seed) = self.seed {
            sampling = sampling.seed(seed);
        }
        sampling
    }
}

#[cfg(feature = "audio")]
impl Args {
    /// The sounds as parts of the user's turn: as they are, or as what another model makes of them.
    fn sounds(&self) -> Result<Vec<(&PathBuf, Part)>, Error> {
        let unusable = |path: &PathBuf, source| Error::Medium { path: path.clone(), source: Box::new(source) };
        let asr = match &self.asr_model {
            Some(dir) => {
                let asr = self.options.open(Some(dir))?;
                asr.transcription_prompt().ok_or_else(|| unusable(dir, autoglm::Error::NoTranscripts))?;
                Some(asr)
            }
            None => None,
        };
        let sounds: Vec<(&PathBuf, Vec<u8>)> =
            self.audio.iter().map(|path| Ok((path, read_medium(path)?))).collect::<Result<_, Error>>()?;
        sounds
            .into_iter()
            .map(|(path, sound)| {
                let Some(asr) = &asr else { return Ok((path, Part::audio(sound))) };
                let words = asr.transcribe(Part::audio(sound)).map_err(|source| unusable(path, source))?;
                if words.is_empty() {
                    return Err(Error::NothingHeard { path: path.clone() });
                }
                Ok((path, Part::text(words)))
            })
            .collect()
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let model = args.options.open(args.model.as_ref())?;
    #[cfg(feature = "power")]
    if args.power {
        model.conduct(autoglm::power::Conductor::of_this_device())?;
        // A run asks once: sleep would only open the weights twice.
        model.sleep_when_idle(None)?;
    }
    let answered = answer(args, &model);
    // Also where it failed, which what fell through may explain.
    #[cfg(feature = "power")]
    model.take_power_complaints().iter().for_each(|trouble| crate::tell(&format!("power: {trouble}")));
    let stats = answered?;
    if args.stats {
        crate::tell(&stats::line(&model, &stats));
    }
    Ok(())
}

/// Asks, and prints the reply as it comes.
fn answer(args: &Args, model: &Model) -> Result<Stats, Error> {
    #[cfg(feature = "power")]
    let outlook = model.outlook();
    #[cfg(not(feature = "power"))]
    let outlook = Outlook::default();
    let mut session = model.session();
    let prompt = args.prompt.as_deref().or(model.transcription_prompt());
    session.tier(args.tier(prompt, &outlook));
    #[cfg(feature = "kvcache")]
    args.pin.load(&mut session)?;
    // Before a picture is encoded, which takes seconds: a mistyped path is known by now.
    #[cfg(feature = "audio")]
    let sounds = args.sounds()?;
    for path in &args.image {
        let shown = session.push(Part::image(read_medium(path)?));
        shown.map_err(|source| Error::Medium { path: path.clone(), source: Box::new(source) })?;
    }
    #[cfg(feature = "audio")]
    for (path, sound) in sounds {
        let heard = session.push(sound);
        heard.map_err(|source| Error::Medium { path: path.clone(), source: Box::new(source) })?;
    }
    if let Some(prompt) = prompt {
        session.push(Part::text(prompt))?;
    }
    let thinking = if args.no_think { Thinking::Skipped } else { Thinking::Free };
    let how = Generate::from(args.sampling()).thinking(thinking).max_new_tokens(args.max_new_tokens);
    let how = how.thinking_budget(args.thinking_budget);
    let mut reply = session.reply(how)?;
    let mut out = std::io::stdout().lock();
    for piece in reply.by_ref() {
        let piece = piece?;
        out.write_all(piece.text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)?;
    }
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(Error::Output)?;
    let stats = reply.stats();
    drop(reply);
    #[cfg(feature = "kvcache")]
    args.pin.save(&session, &stats)?;
    Ok(stats)
}

/// The bytes of a picture or of a sound file. A longer one is cut just behind the limit, where the decoder refuses
/// it by name, so that a device file or a mistaken path cannot fill the memory.
pub(crate) fn read_medium(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;

    const LIMIT: u64 = (64 << 20) + 1;
    let read = |source| Error::Read { path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(read)?;
    if !kind.is_file() {
        return Err(read(std::io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(read)?.take(LIMIT).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}
