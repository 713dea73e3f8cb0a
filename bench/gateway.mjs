// Question: what CPU does the gateway cost per request and per streamed token, and what does it add to a first token?
// Peers, in the same rounds on the same input: a bare pass-through proxy of node:http + undici (below, no scanning,
// routing, metrics or continuation), HAProxy where it is installed, and the engine asked directly.
//
// `request`: closed loop of small chat answers. `stream`: paced streams as an engine sends them under load, each event
// stamped by the engine, so that the one-way delay of a token is known. CPU is user + system time of the process under
// test alone, from /proc. Where `taskset` exists, it has one core and the rest of the bench the others.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Pool } from 'undici';
import { quick, report, spreadOf } from './support/bench.mjs';

const ROUNDS = quick ? 1 : 5;
const SECONDS = quick ? 1 : 4;
const CONNECTIONS = 50;
const TOKENS_PER_STREAM = 128;
const TOKEN_MS = 10;
const MODEL = 'llama2-70b';
const messages = [{ role: 'user', content: 'How many GPUs does it take to change a light bulb, and why is it eight?' }];
const bodies = {
  request: JSON.stringify({ model: MODEL, messages, max_tokens: 16 }),
  stream: JSON.stringify({ model: MODEL, messages, max_tokens: TOKENS_PER_STREAM, stream: true }),
};

const nowMicros = () => Number(process.hrtime.bigint() / 1000n);
// ── the engine: canned answers, stamped tokens ──────────────────────────────────────────────────────────────────────

function engine() {
  const answer = JSON.stringify({
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1,
    model: MODEL,
    choices: [{ index: 0, message: { role: 'assistant', content: 'Eight.' }, logprobs: null, finish_reason: 'stop' }],
    usage: { prompt_tokens: 24, total_tokens: 27, completion_tokens: 3 },
  });
  const whole = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${answer.length}\r\n\r\n${answer}`;
  const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n';
  const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
  const event = (delta, finish, ids) => {
    const tokens = ids === null ? '' : `,"token_ids":${ids}`;
    return `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"${MODEL}","choices":[{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${finish}${tokens}}]}\n\n`;
  };
  const streams = new Set();
  setInterval(() => {
    for (const stream of streams) {
      const { socket, withIds } = stream;
      const last = ++stream.sent === TOKENS_PER_STREAM;
      const delta = `{"content":"T${String(nowMicros()).padStart(16, '0')}"}`;
      socket.write(chunk(event(delta, last ? '"stop"' : 'null', withIds ? `[${stream.sent}]` : null)));
      if (!last) continue;
      socket.write(`${chunk('data: [DONE]\n\n')}0\r\n\r\n`);
      streams.delete(stream);
    }
  }, TOKEN_MS);
  const server = createTcpServer({ noDelay: true }, (socket) => {
    let text = '';
    let stream = null;
    socket.on('error', () => socket.destroy());
    socket.on('close', () => streams.delete(stream));
    socket.on('data', (data) => {
      text += data.toString('latin1');
      const bodyAt = text.indexOf('\r\n\r\n') + 4;
      if (bodyAt < 4) return;
      const length = Number(/content-length: *(\d+)/i.exec(text.slice(0, bodyAt))?.[1] ?? 0);
      if (text.length < bodyAt + length) return;
      const body = text.slice(bodyAt, bodyAt + length);
      text = text.slice(bodyAt + length);
      if (!body.includes('"stream":true')) return void socket.write(whole);
      const withIds = body.includes('"return_token_ids":true');
      const role = event('{"role":"assistant","content":""}', 'null', null);
      const prompt = withIds ? `${role.slice(0, -3)},"prompt_token_ids":[${Array(24).fill(1000)}]}\n\n` : role;
      socket.write(head + chunk(prompt));
      stream = { socket, withIds, sent: 0 };
      streams.add(stream);
    });
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

// ── the proxies under test ──────────────────────────────────────────────────────────────────────────────────────────

function bareProxy(upstream) {
  const pool = new Pool(upstream, { connections: null, pipelining: 1, connect: { noDelay: true } });
  const server = createServer((req, res) => {
    const pieces = [];
    req.on('data', (piece) => pieces.push(piece));
    req.on('end', () => {
      const options = { path: req.url, method: req.method, headers: { 'content-type': 'application/json' } };
      pool.dispatch(
        {
          ...options,
          body: pieces.length === 1 ? pieces[0] : Buffer.concat(pieces),
          headersTimeout: 0,
          bodyTimeout: 0,
        },
        {
          onConnect() {},
          onHeaders(status, headers) {
            const kept = {};
            for (let i = 0; i < headers.length; i += 2) {
              const name = headers[i].toString('latin1').toLowerCase();
              if (name === 'content-type' || name === 'content-length') kept[name] = headers[i + 1].toString('latin1');
            }
            res.writeHead(status, kept);
            return true;
          },
          onData: (data) => res.write(data) || true,
          onComplete: () => res.end(),
          onError: () => res.destroy(),
        },
      );
    });
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

async function gateway(upstream) {
  const { makeRequestRouter } = await import('../dist/core/control/index.js');
  const { startGateway } = await import('../dist/gateway/index.js');
  const { createLogger, PoolClock } = await import('../dist/host/index.js');
  const token = 'bench';
  const running = await startGateway({
    clock: PoolClock.startNow(1),
    makeRouter: makeRequestRouter,
    log: createLogger({ name: 'gateway', level: 'warn' }),
    token,
    port: 0,
  });
  // Four replicas of two classes and four types: the router has a real choice to make.
  const classKeys = [`${MODEL}:TP4@H100-80GB`, `${MODEL}:TP8@H100-80GB`];
  const types = [
    [200, 100],
    [200, 800],
    [4000, 100],
    [4000, 800],
  ].map(([inputTokens, outputTokens], index) => ({
    id: `t${index}`,
    model: MODEL,
    inputTokens,
    outputTokens,
    logInput: Math.log(inputTokens),
    logOutput: Math.log(outputTokens),
    samples: [[inputTokens, outputTokens]],
  }));
  const update = {
    version: 1,
    workload: { version: 1, fittedToSeconds: 0, types, posteriorCounts: {} },
    assignment: {
      typeIds: types.map((type) => type.id),
      classKeys,
      share: types.map((_, index) => [0.2 + 0.2 * index, 0.8 - 0.2 * index]),
      variant: { kind: 'plain' },
    },
    replicas: [0, 1, 2, 3].map((index) => ({
      id: `r${index}`,
      url: upstream,
      model: MODEL,
      classKey: classKeys[index >> 1],
      gpuCount: index < 2 ? 4 : 8,
      maxModelLen: 16384,
      kvTokens: 400_000,
    })),
  };
  const response = await fetch(`${running.adminUrl}/admin/v1/routing`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify(update),
  });
  if (!response.ok) throw new Error(await response.text());
  process.send({ port: running.port });
}

function haproxyConfig(port, upstreamPort) {
  return `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
  option http-no-delay
frontend f
  bind 127.0.0.1:${port}
  default_backend b
backend b
  balance leastconn
  server s1 127.0.0.1:${upstreamPort}
`;
}

function freePort() {
  const server = createTcpServer();
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Resolves when something listens; tries for ten seconds. */
async function listening(port) {
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const open = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}

// ── load ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Raw keep-alive connections in a closed loop; counts answers and stamped tokens. */
function load(port, kind, seconds) {
  const body = bodies[kind];
  const request = Buffer.from(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  const end = nowMicros() + seconds * 1e6;
  const result = { requests: 0, tokens: 0, firstMicros: [], tokenMicros: [] };
  return new Promise((resolve, reject) => {
    let open = CONNECTIONS;
    const one = () => {
      const socket = connect(port, '127.0.0.1');
      socket.setNoDelay(true);
      let asked = 0;
      let first = true;
      let tail = '';
      const next = () => {
        asked = nowMicros();
        first = true;
        tail = '';
        if (asked < end) return void socket.write(request);
        socket.destroy();
        if (--open === 0) resolve(result);
      };
      socket.on('connect', next);
      socket.on('error', reject);
      socket.on('close', () => asked < end && reject(new Error(`${kind}: a connection was closed early`)));
      socket.on('data', (data) => {
        const now = nowMicros();
        const text = tail + data.toString('latin1');
        let at = 0;
        for (let stamp = text.indexOf('"content":"T', at); stamp >= 0; stamp = text.indexOf('"content":"T', at)) {
          if (stamp + 28 > text.length) break;
          result.tokens++;
          result.tokenMicros.push(now - Number(text.slice(stamp + 12, stamp + 28)));
          if (first) result.firstMicros.push(now - asked);
          first = false;
          at = stamp + 28;
        }
        const over = kind === 'stream' ? text.endsWith('0\r\n\r\n') : text.includes('"completion_tokens":3}}');
        if (!over) {
          tail = text.slice(Math.max(at, text.length - 400));
          return;
        }
        result.requests++;
        if (kind === 'request') result.firstMicros.push(now - asked);
        next();
      });
    };
    // Spread over the length of a stream: all streams starting at one instant would measure that burst.
    const spreadMs = kind === 'stream' ? TOKENS_PER_STREAM * TOKEN_MS : 0;
    for (let i = 0; i < CONNECTIONS; i++) setTimeout(one, (spreadMs * i) / CONNECTIONS);
  });
}

/** Text that a client makes of one answer: must be the same through every subject. */
async function answerOf(port) {
  const options = { method: 'POST', headers: { 'content-type': 'application/json' } };
  const ask = async (body) =>
    (await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, { ...options, body })).text();
  return (await ask(bodies.request)) + (await ask(bodies.stream)).replaceAll(/"T\d{16}"/g, '"T"');
}

// ── the rounds ──────────────────────────────────────────────────────────────────────────────────────────────────────

const CLOCK_TICK_MICROS = 1e4;
/** User + system time of a process so far, microseconds. */
function cpuMicros(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_MICROS;
}

const percentile = (values, share) =>
  [...values].sort((a, b) => a - b)[Math.floor(share * (values.length - 1))] ?? Number.NaN;

async function main() {
  if (process.platform !== 'linux') {
    console.log('gateway: skipped: CPU time of other processes is read from /proc, which only Linux has');
    return;
  }
  const canPin = availableParallelism() >= 2 && spawnSync('taskset', ['-V']).status === 0;
  const children = [];
  const start = async (core, command, args) => {
    const [program, ...rest] = canPin ? ['taskset', '-c', String(core), command, ...args] : [command, ...args];
    const child = spawn(program, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    children.push(child);
    return child;
  };
  const self = fileURLToPath(import.meta.url);
  const startRole = async (core, name, ...args) => {
    const child = await start(core, process.execPath, [self, `--role=${name}`, ...args]);
    const port = await new Promise((resolve, reject) => {
      child.once('message', (message) => resolve(message.port));
      child.once('exit', (code) => reject(new Error(`${name} ended with ${code}`)));
    });
    return { name, port, pid: child.pid };
  };
  const folder = mkdtempSync(join(tmpdir(), 'oserve-bench-'));
  try {
    if (canPin) spawnSync('taskset', ['-cp', '0', String(process.pid)]);
    const direct = { ...(await startRole(0, 'engine')), name: 'direct' };
    const upstream = `http://127.0.0.1:${direct.port}`;
    const subjects = [await startRole(1, 'gateway', upstream), await startRole(1, 'bare', upstream)];
    if (spawnSync('haproxy', ['-v'], { stdio: 'ignore' }).status === 0) {
      const port = await freePort();
      const file = join(folder, 'haproxy.cfg');
      writeFileSync(file, haproxyConfig(port, direct.port));
      const child = await start(1, 'haproxy', ['-db', '-f', file]);
      await listening(port);
      subjects.push({ name: 'haproxy', port, pid: child.pid });
    } else console.log('skipped: haproxy not installed');

    const expected = await answerOf(direct.port);
    for (const { name, port } of subjects) {
      if ((await answerOf(port)) !== expected) throw new Error(`${name} gave another answer than the engine`);
    }
    for (const { port } of [...subjects, direct])
      for (const kind of ['request', 'stream']) await load(port, kind, quick ? 1 : 2);

    const samples = new Map();
    for (let round = 0; round < ROUNDS; round++) {
      for (const kind of ['request', 'stream']) {
        for (const { name, port, pid } of [...subjects, direct]) {
          const before = cpuMicros(pid);
          const { requests, tokens, firstMicros, tokenMicros } = await load(port, kind, SECONDS);
          const micros = cpuMicros(pid) - before;
          const units = kind === 'request' ? requests : tokens;
          const key = `${kind} ${name}`;
          if (!samples.has(key)) samples.set(key, []);
          samples.get(key).push({
            cpu: name === 'direct' ? 0 : micros / units,
            perSecond: units / SECONDS,
            first: percentile(firstMicros, 0.5) / 1000,
            first99: percentile(firstMicros, 0.99) / 1000,
            token: kind === 'stream' ? percentile(tokenMicros, 0.5) / 1000 : 0,
            token99: kind === 'stream' ? percentile(tokenMicros, 0.99) / 1000 : 0,
          });
        }
      }
    }
    const medianOf = (key, field) => spreadOf(samples.get(key).map((sample) => sample[field])).median;
    const rows = [...samples].map(([key, list]) => {
      const [kind, subject] = key.split(' ');
      const { median, min, max } = spreadOf(list.map((sample) => sample.cpu));
      return {
        load: kind,
        subject,
        'CPU µs': median,
        min,
        max,
        'vs bare': subject === 'direct' ? 0 : median / medianOf(`${kind} bare`, 'cpu'),
        'unit/s': medianOf(key, 'perSecond'),
        'first ms p50': medianOf(key, 'first'),
        'first ms p99': medianOf(key, 'first99'),
        'token ms p50': medianOf(key, 'token'),
        'token ms p99': medianOf(key, 'token99'),
      };
    });
    console.log(
      `\n${ROUNDS} rounds of ${SECONDS} s, ${CONNECTIONS} connections, load average ${loadavg()[0].toFixed(1)}`,
    );
    report({
      name: 'gateway',
      question: 'CPU per request and per streamed token of the gateway, beside a bare proxy of the same libraries',
      seed: null,
      rows,
    });
  } finally {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  }
}

const role = process.argv.find((argument) => argument.startsWith('--role='))?.slice(7);
if (role === 'engine') engine();
else if (role === 'bare') bareProxy(process.argv.at(-1));
else if (role === 'gateway') await gateway(process.argv.at(-1));
else await main();
