// Question: what CPU does an emulated engine cost per streamed token and per request, and where does it go?
// Peers: the replica model alone, without HTTP (what emulating the scheduler costs); and two servers that send the same
// chunks and do nothing else, by `response.write` and, as engines do, by one write of a chunk framed by hand.
//
// Streams are paced as in a pool at twice the real speed, so that each step's token is a chunk of its own; `chunks/token`
// says whether that was so. CPU is user + system time of the process under test alone, from /proc.
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { quick, report, spreadOf } from './support/bench.mjs';

const ROUNDS = quick ? 1 : 5;
const STREAMS = 50;
const OUTPUT_TOKENS = quick ? 100 : 400;
const PROMPT_TOKENS = 256;
const LONG_PROMPT_TOKENS = 4000;
const LONG_PROMPTS = quick ? 20 : 60;
const SPEED = 2;
const MODEL = 'llama2-70b';
const CHUNK_MS = 10;
/** What an engine says for one token. */
const CHUNK = `data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1700000000,"model":"${MODEL}","choices":[{"index":0,"text":" babelu","logprobs":null,"finish_reason":null,"stop_reason":null,"token_ids":[12345],"prompt_token_ids":null}],"usage":null}\n\n`;

// ── the servers under test, each in a process of its own ────────────────────────────────────────────────────────────

async function engine() {
  const { startEngine } = await import('../dist/agent/index.js');
  const { modelByName } = await import('../dist/core/domain/index.js');
  const { loadProfiles } = await import('../dist/host/index.js');
  const { url } = await startEngine({
    epochMs: Date.now(),
    speed: SPEED,
    id: 'bench',
    model: modelByName(MODEL),
    gpuKind: 'H100-80GB',
    strategy: { tensorParallel: 8, pipelineParallel: 1 },
    kvBlocks: 20_000,
    maxModelLen: 16384,
    profiles: loadProfiles(),
  });
  process.send({ port: Number(new URL(url).port) });
}

/** Sends OUTPUT_TOKENS chunks to whoever asks, all clients in the same beat. */
function chunkServer(write) {
  const open = new Map();
  setInterval(() => {
    for (const [response, sent] of open) {
      write(response, CHUNK);
      if (sent + 1 < OUTPUT_TOKENS) open.set(response, sent + 1);
      else {
        open.delete(response);
        response.end('data: [DONE]\n\n');
      }
    }
  }, CHUNK_MS);
  const server = createServer({ noDelay: true }, (request, response) => {
    request.resume().on('end', () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': hello\n\n');
      open.set(response, 0);
    });
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

const byResponse = (response, text) => response.write(text);
const byFrame = (response, text) =>
  response.socket.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`, 'latin1');

// ── load ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const promptOf = (length, seed) => Array.from({ length }, (_, i) => 3 + ((i * 7919 + seed * 104_729) % 30_000));

function requestBytes(promptTokens, outputTokens, seed) {
  const body = JSON.stringify({
    model: MODEL,
    prompt: promptOf(promptTokens, seed),
    max_tokens: outputTokens,
    ignore_eos: true,
    stream: true,
    return_token_ids: true,
  });
  return `POST /v1/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}

/** One stream on a connection of its own; resolves with the number of its chunks. */
function stream(port, bytes) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let chunks = 0;
    let tail = '';
    socket.setNoDelay(true);
    socket.on('connect', () => socket.write(bytes));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('a stream was cut')));
    socket.on('data', (data) => {
      const text = tail + data.toString('latin1');
      let at = 0;
      for (let hit = text.indexOf('"text":', at); hit >= 0; hit = text.indexOf('"text":', at)) {
        chunks++;
        at = hit + 7;
      }
      tail = text.slice(Math.max(at, text.length - 40));
      if (!text.includes('[DONE]')) return;
      socket.removeAllListeners('close');
      socket.destroy();
      resolve(chunks);
    });
  });
}

async function streams(port) {
  const counts = await Promise.all(
    Array.from({ length: STREAMS }, (_, seed) => stream(port, requestBytes(PROMPT_TOKENS, OUTPUT_TOKENS, seed))),
  );
  return { units: STREAMS * OUTPUT_TOKENS, chunks: counts.reduce((sum, count) => sum + count, 0) };
}

async function longPrompts(port) {
  let chunks = 0;
  for (let seed = 0; seed < LONG_PROMPTS; seed++) {
    chunks += await stream(port, requestBytes(LONG_PROMPT_TOKENS, 1, seed));
  }
  return { units: LONG_PROMPTS, chunks };
}

// ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────────────

const CLOCK_TICK_MICROS = 1e4;
function cpuMicros(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MICROS;
}

/** The same streams as steps of the replica model, as fast as they go; microseconds of CPU per token. */
async function modelAlone() {
  const { DEFAULT_ENGINE_OPTIONS, modelByName } = await import('../dist/core/domain/index.js');
  const { fittedStepTime, ReplicaEngine } = await import('../dist/core/replica/index.js');
  const { loadProfiles } = await import('../dist/host/index.js');
  const strategy = { tensorParallel: 8, pipelineParallel: 1 };
  const stepTimeOf = fittedStepTime(loadProfiles(), [modelByName(MODEL)]);
  const run = () => {
    const replica = new ReplicaEngine({
      stepTime: stepTimeOf({ model: MODEL, gpuKind: 'H100-80GB', strategy }, 'bench'),
      pipelineParallel: 1,
      kvBlocks: 20_000,
      engine: DEFAULT_ENGINE_OPTIONS,
    });
    for (let i = 0; i < STREAMS; i++) replica.add(i, PROMPT_TOKENS, OUTPUT_TOKENS, 0);
    let tokens = 0;
    replica.advance(Number.POSITIVE_INFINITY, {
      token: () => {
        tokens++;
      },
      finished: () => {},
    });
    if (tokens !== STREAMS * OUTPUT_TOKENS) throw new Error(`${tokens} tokens`);
    return tokens;
  };
  run();
  const before = process.cpuUsage();
  let tokens = 0;
  for (let i = 0; i < 20; i++) tokens += run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / tokens;
}

async function main() {
  if (process.platform !== 'linux') {
    console.log('engine: skipped: CPU time of other processes is read from /proc, which only Linux has');
    return;
  }
  const children = [];
  const start = async (role) => {
    const child = fork(fileURLToPath(import.meta.url), [`--role=${role}`, ...(quick ? ['--quick'] : [])]);
    children.push(child);
    const port = await new Promise((resolve, reject) => {
      child.once('message', (message) => resolve(message.port));
      child.once('exit', (code) => reject(new Error(`${role} ended with ${code}`)));
    });
    return { port, pid: child.pid };
  };
  try {
    const emulated = await start('engine');
    const subjects = [
      ['emulated engine', 'token', emulated, streams],
      ['chunks by response.write', 'token', await start('response'), streams],
      ['chunks framed by hand', 'token', await start('frame'), streams],
      [`emulated engine, ${LONG_PROMPT_TOKENS} tokens in, 1 out`, 'request', emulated, longPrompts],
    ];
    const samples = subjects.map(() => []);
    let perToken = [];
    for (const [, , { port }, load] of subjects) await load(port); // warms up
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, [, , { port, pid }, load]] of subjects.entries()) {
        const before = cpuMicros(pid);
        const { units, chunks } = await load(port);
        samples[index].push({ cpu: (cpuMicros(pid) - before) / units, chunks: chunks / units });
      }
      perToken = [...perToken, await modelAlone()];
    }
    const row = (subject, unit, values, chunks) => {
      const { median, min, max } = spreadOf(values);
      return { subject, unit, 'CPU µs': median, min, max, 'chunks/unit': chunks };
    };
    const rows = subjects.map(([subject, unit], index) =>
      row(
        subject,
        unit,
        samples[index].map(({ cpu }) => cpu),
        spreadOf(samples[index].map(({ chunks }) => chunks)).median,
      ),
    );
    rows.push(row('replica model alone', 'token', perToken, 0));
    console.log(
      `\n${ROUNDS} rounds, ${STREAMS} streams of ${OUTPUT_TOKENS} tokens, load average ${loadavg()[0].toFixed(1)}`,
    );
    report({
      name: 'engine',
      question: 'CPU of an emulated engine per streamed token and per request, beside servers that only send',
      seed: null,
      rows,
    });
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

// Nobody asks any more: the bench was killed.
process.once('disconnect', () => process.exit());
const role = process.argv.find((argument) => argument.startsWith('--role='))?.slice(7);
if (role === 'engine') await engine();
else if (role === 'response') chunkServer(byResponse);
else if (role === 'frame') chunkServer(byFrame);
else await main();
