//! `autoglm bench`: how fast a model of this shape is on this machine, beside what the machine can do.

use std::io::Write as _;
use std::time::Duration;

use autoglm::{Machine, Model, OpenOptions, Part, Shape, Trial};
use serde_json::{Value, json};

use crate::error::Error;
use crate::model::Named;
use crate::stats::{forget_peak_rss, peak_rss_bytes};

/// The first answer token after a short question to a warm model: what the authors of the system aim
/// at.
const FIRST_TOKEN_GOAL: Duration = Duration::from_millis(350);

/// Rows of that question, and how often it is asked.
const QUESTION: usize = 20;
const QUESTIONS: usize = 7;

/// Steps of the decode that is held against reads between its steps.
const BESIDE_READS: usize = 16;

/// Measure prefill, decode and vision of a model with random weights
///
/// The weights are made in memory, already in the precision asked for, so no checkpoint is needed and
/// nothing that is said means anything. The limits of the machine are measured before and after, on the
/// same threads, and the better of each counts. Single tokens are also held against reads between them,
/// which is fairer where neighbours share the memory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose shape to take: glm-4.1v-9b, glm-4.1v-0.9b, glm-asr-nano or tiny
    #[arg(long, value_parser = shape_named, default_value = "glm-4.1v-0.9b")]
    shape: Shape,
    /// Decoder layers instead of the shape's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    layers: Option<u16>,
    /// Blocks of the vision tower instead of the shape's own number; 0 builds no tower
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    vision_layers: Option<u16>,
    /// Layers of the audio tower instead of the shape's own number; 0 builds no tower
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    audio_layers: Option<u16>,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "int8")]
    precision: Named,
    /// Rows of the prompt, those of a picture and of a sound included
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = rows())]
    prompt: u32,
    /// Tokens to generate
    #[arg(long = "gen", value_name = "N", default_value_t = 32, value_parser = rows())]
    generate: u32,
    /// Size of a picture in pixels, before it is resized: 1080x2400
    #[arg(long, value_name = "WxH", value_parser = size)]
    image: Option<(u32, u32)>,
    /// Share of the picture's rows that go into the prompt, above 0 and at most 1 [default: all]
    #[arg(long, value_name = "SHARE", requires = "image", allow_negative_numbers = true)]
    keep: Option<f64>,
    /// Seconds of a sound
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=630))]
    audio: Option<u16>,
    /// Runs of the prefill and of the audio encoder, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: u16,
    /// Replay a phone agent's conversation of this many steps instead: a system prompt of 1800 tokens, turns of
    /// 200, and at each step a new picture in the place of the last one
    #[cfg(feature = "kvcache")]
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u16).range(1..=200), conflicts_with_all = ["prompt", "generate", "repeat"])]
    agent_loop: Option<u16>,
    /// Put the checkpoint in this directory to sleep and wake it instead: memory before, asleep and after, and seconds to the
    /// first token, beside an opening from the page cache; one JSON object
    #[cfg(feature = "power")]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["shape", "layers", "vision_layers", "audio_layers", "precision", "prompt", "generate", "image", "audio"])]
    #[cfg_attr(feature = "kvcache", arg(conflicts_with = "agent_loop"))]
    sleep: Option<std::path::PathBuf>,
    /// How keys and values are held [default: bf16 beside integer weights, f32 beside floats]
    #[cfg(feature = "kvcache")]
    #[arg(long, value_name = "FORMAT")]
    kv: Option<crate::model::Kv>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn rows() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=65_536)
}

fn shape_named(name: &str) -> Result<Shape, String> {
    Shape::named(name).ok_or_else(|| format!("the shapes are {}", Shape::NAMES.join(", ")))
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match sides {
        Some((w @ 1..=16_384, h @ 1..=16_384)) => Ok((w, h)),
        _ => Err("a size is WIDTHxHEIGHT, each from 1 to 16384".into()),
    }
}

/// Runs the command.
pub(crate) fn bench(args: &Args) -> Result<(), Error> {
    let shape = args.shape.clone();
    let shape = shape.layers(args.layers.map(usize::from)).vision_layers(args.vision_layers.map(usize::from));
    let shape = shape.audio_layers(args.audio_layers.map(usize::from));
    let threads = args.threads.map(usize::from);
    let keep = crate::model::keep(args.keep)?;
    let options = OpenOptions::default().precision(args.precision.0).threads(threads).keep(keep);
    #[cfg(feature = "kvcache")]
    let options = options.kv_format(args.kv.map(crate::model::Kv::format));
    #[cfg(feature = "kvcache")]
    if let Some(steps) = args.agent_loop {
        let text = crate::agent_loop::replay(&Model::synthetic(&shape, &options)?, steps, args.image, args.json)?;
        return std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output);
    }
    #[cfg(feature = "power")]
    if let Some(dir) = &args.sleep {
        // Whatever precision the files have.
        let text = crate::sleep::measure(dir, &options.precision(None), args.repeat)?;
        return std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output);
    }
    // Before there are weights, so that the memory it takes is not counted beside them.
    let before = Machine::measure(threads)?;
    forget_peak_rss();
    let model = Model::synthetic(&shape, &options)?;
    // Others each time: what was seen or heard before is not encoded again.
    let media = |seed: u16| -> Vec<Part> {
        let picture = args.image.map(|(width, height)| picture(width, height, u32::from(seed)));
        let sound = args.audio.map(|seconds| sound(seconds, u32::from(seed)));
        picture.into_iter().chain(sound).collect()
    };
    let mut trial = model.trial(args.prompt as usize, &media(0))?;
    let others = (1..args.repeat).map(|seed| model.trial(args.prompt as usize, &media(seed)));
    let others = if args.audio.is_some() { others.collect::<Result<Vec<_>, _>>()? } else { Vec::new() };
    let audio = median(others.iter().chain([&trial]).map(Trial::audio).collect());
    drop(others);
    let prefill = median((0..args.repeat).map(|_| trial.prefill()).collect::<Result<_, _>>()?);
    let decode = median(trial.decode(args.generate as usize)?);
    let first = median((0..QUESTIONS).map(|_| trial.ask(QUESTION)).collect::<Result<_, _>>()?);
    let peak_rss = peak_rss_bytes();
    let kv_bytes = trial.kv_bytes();
    let beside = trial.decode_beside_reads(BESIDE_READS.min(args.generate as usize))?;
    let machine = before.best(Machine::measure(threads)?);
    let limits = Limits { machine, beside: of_reads(model.bytes_per_token(), beside) };
    let measured = Measured {
        args,
        shape: &shape,
        model: &model,
        trial: &trial,
        audio,
        prefill,
        decode,
        first,
        limits,
        peak_rss,
        kv_bytes,
    };
    let text = if args.json { format!("{}\n", measured.json()) } else { measured.table() };
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::Output)
}

/// The median share of a step's bandwidth in that of the reads around it.
fn of_reads(bytes: u64, steps: Vec<(Duration, f64)>) -> f64 {
    let shares = steps.into_iter().map(|(took, gbs)| bytes as f64 / took.as_secs_f64() / 1e9 / gbs);
    let mut shares: Vec<f64> = shares.collect();
    shares.sort_unstable_by(f64::total_cmp);
    shares.get(shares.len() / 2).copied().unwrap_or_default()
}

/// A picture with something in it, so that nothing can take a shortcut; another one for each seed.
pub(crate) fn picture(width: u32, height: u32, seed: u32) -> Part {
    let sample = |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8;
    Part::pixels(width, height, (0..width * height * 3).map(sample).collect::<Vec<_>>())
}

/// Noise; another one for each seed.
fn sound(seconds: u16, seed: u32) -> Part {
    const RATE: u32 = 16_000;
    let sample = |i: u32| f32::from((i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 16) as i16) / 65_536.0;
    Part::samples(RATE, (0..u32::from(seconds) * RATE).map(sample).collect::<Vec<_>>())
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

struct Measured<'a> {
    args: &'a Args,
    shape: &'a Shape,
    model: &'a Model,
    trial: &'a Trial,
    audio: Duration,
    prefill: Duration,
    decode: Duration,
    first: Duration,
    limits: Limits,
    peak_rss: Option<u64>,
    kv_bytes: u64,
}

struct Limits {
    machine: Machine,
    /// Share of a token's bandwidth in that of reads before and after it.
    beside: f64,
}

impl Measured<'_> {
    fn prefill_gops(&self) -> f64 {
        2.0 * self.shape.decoder_macs() as f64 * f64::from(self.args.prompt) / self.prefill.as_secs_f64() / 1e9
    }

    fn decode_gbs(&self) -> f64 {
        self.model.bytes_per_token() as f64 / self.decode.as_secs_f64() / 1e9
    }

    fn prefill_of_peak(&self) -> Option<f64> {
        self.limits.machine.dot_peak_gops.map(|peak| self.prefill_gops() / peak)
    }

    fn decode_of_read(&self) -> f64 {
        self.decode_gbs() / self.limits.machine.read_gbs
    }

    fn vision_s(&self) -> Option<f64> {
        self.args.image.map(|_| self.trial.vision().as_secs_f64())
    }

    fn audio_s(&self) -> Option<f64> {
        self.args.audio.map(|_| self.audio.as_secs_f64())
    }

    /// What the process held at most besides weights, keys and values.
    fn other_peak_bytes(&self) -> Option<u64> {
        Some(self.peak_rss?.saturating_sub(self.model.weights_bytes() + self.kv_bytes))
    }

    fn json(&self) -> Value {
        json!({
            "prefill_tok_s": f64::from(self.args.prompt) / self.prefill.as_secs_f64(),
            "decode_tok_s": 1.0 / self.decode.as_secs_f64(),
            "prefill_gops": self.prefill_gops(),
            "decode_gbs": self.decode_gbs(),
            "dot_peak_gops": self.limits.machine.dot_peak_gops,
            "read_gbs": self.limits.machine.read_gbs,
            "prefill_of_peak": self.prefill_of_peak(),
            "decode_of_read": self.decode_of_read(),
            "decode_of_reads_beside": self.limits.beside,
            "vision_s": self.vision_s(),
            "picture_rows": self.trial.picture_rows(),
            "audio_s": self.audio_s(),
            "sound_rows": self.trial.sound_rows(),
            "first_token_s": self.first.as_secs_f64(),
            "first_token_goal_met": self.first <= FIRST_TOKEN_GOAL,
            "weights_bytes": self.model.weights_bytes(),
            "kv_bytes": self.kv_bytes,
            "other_peak_bytes": self.other_peak_bytes(),
            "peak_rss_bytes": self.peak_rss,
            "isa": self.model.isa(),
            "threads": self.model.threads(),
        })
    }

    fn table(&self) -> String {
        let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let unknown = || "unknown".to_owned();
        let share = |of: Option<f64>| of.map_or_else(unknown, |of| format!("{:.0} %", of * 100.0));
        let met = if self.first <= FIRST_TOKEN_GOAL { "met" } else { "not met" };
        let mut lines = vec![
            ("machine".to_owned(), format!("{}, {} threads", self.model.isa(), self.model.threads())),
            (
                "dot-product peak".into(),
                self.limits.machine.dot_peak_gops.map_or_else(unknown, |gops| format!("{gops:.0} GOP/s")),
            ),
            ("read bandwidth".into(), format!("{:.1} GB/s", self.limits.machine.read_gbs)),
            (
                format!("prefill {}", self.args.prompt),
                format!(
                    "{:.2} tok/s, {:.0} GOP/s, {} of the peak",
                    f64::from(self.args.prompt) / self.prefill.as_secs_f64(),
                    self.prefill_gops(),
                    share(self.prefill_of_peak())
                ),
            ),
            (
                format!("decode {}", self.args.generate),
                format!(
                    "{:.2} tok/s, {:.1} GB/s, {} of the bandwidth, {} of reads between tokens",
                    1.0 / self.decode.as_secs_f64(),
                    self.decode_gbs(),
                    share(Some(self.decode_of_read())),
                    share(Some(self.limits.beside))
                ),
            ),
            (
                format!("first token after {QUESTION}"),
                format!("{:.0} ms (goal {} ms: {met})", self.first.as_secs_f64() * 1e3, FIRST_TOKEN_GOAL.as_millis()),
            ),
        ];
        if let Some(vision) = self.vision_s() {
            lines.push(("vision".into(), format!("{vision:.2} s, {} rows", self.trial.picture_rows())));
        }
        if let Some(audio) = self.audio_s() {
            lines.push(("audio".into(), format!("{audio:.2} s, {} rows", self.trial.sound_rows())));
        }
        lines.push(("weights".into(), gb(self.model.weights_bytes())));
        lines.push(("keys and values".into(), gb(self.kv_bytes)));
        lines.push(("other memory at most".into(), self.other_peak_bytes().map_or_else(unknown, gb)));
        lines.push(("resident at most".into(), self.peak_rss.map_or_else(unknown, gb)));
        lines.into_iter().map(|(what, value)| format!("{what:22} {value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_or_refused() {
        assert_eq!(size("1080x2400"), Ok((1080, 2400)));
        for bad in ["", "1080", "0x5", "5x0", "1x99999", "axb", "1x2x3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let times = [5, 1, 9].map(Duration::from_secs);
        assert_eq!(median(times.to_vec()), Duration::from_secs(5));
    }
}
