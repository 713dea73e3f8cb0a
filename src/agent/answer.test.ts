import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { Answer, type Tokens } from './answer.ts';
import type { TokenListener } from './driver.ts';
import { planRequest } from './engine-request.ts';

const tick = () => new Promise((resolve) => setImmediate(resolve));

/** A connection whose reader takes bytes only when told to. */
class StalledSocket extends Writable {
  readonly received: string[] = [];
  #stalled: (() => void) | null = null;
  constructor() {
    super({ highWaterMark: 1000, decodeStrings: false });
  }
  override _write(chunk: string | Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received.push(chunk.toString());
    this.#stalled = done;
  }
  /** Takes everything that is written. */
  async read(): Promise<void> {
    await tick();
    while (this.#stalled) {
      const done = this.#stalled;
      this.#stalled = null;
      done();
      await tick();
    }
  }
}

function startAnswer(body: object) {
  const plan = planRequest('completion', JSON.stringify({ prompt: [5, 6, 7], ...body }), {}, engine);
  const request = new IncomingMessage(new Socket());
  request.httpVersionMajor = 1;
  request.httpVersionMinor = 1;
  const response = new ServerResponse(request);
  const socket = new StalledSocket();
  response.assignSocket(socket as unknown as Socket);
  const listeners: TokenListener[] = [];
  const removed: number[] = [];
  const driver: Tokens = {
    add: (_work, listener) => listeners.push(listener) - 1,
    remove: (handle) => removed.push(handle),
  };
  let ended = 0;
  new Answer(plan, { id: 'cmpl-1', model: 'm', created: 1, headers: {} }, response, driver).start(() => {
    ended += 1;
  });
  return { socket, listeners, removed, response, plan, ended: () => ended };
}
const engine = { modelName: 'm', maxModelLen: 100_000 };
const eventsIn = (text: string) =>
  text
    .split('\n')
    .filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice(6)));

test('while the connection is full tokens are only counted; then they come as one chunk', async () => {
  const { socket, listeners } = startAnswer({
    max_tokens: 50_000,
    ignore_eos: true,
    stream: true,
    return_token_ids: true,
  });
  listeners[0]!(1, false);
  await tick(); // the header and the first chunk leave at the end of the turn
  for (let tokens = 2; tokens <= 40_000; tokens++) listeners[0]!(tokens, false);
  const buffered = socket.received.join('').length + socket.writableLength;
  expect(buffered).toBeLessThan(5000);
  const before = eventsIn(socket.received.join('')).length;
  await socket.read();
  const ids = eventsIn(socket.received.join('')).map((event) => event.choices[0].token_ids as number[]);
  expect(ids.flat()).toHaveLength(40_000);
  expect(ids.length).toBeLessThan(before + 20);
});

test('an answer that ends while the connection is full ends whole when it drains', async () => {
  const { socket, listeners, plan } = startAnswer({
    max_tokens: 30_000,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  for (let tokens = 1; tokens <= 30_000; tokens++) listeners[0]!(tokens, tokens === 30_000);
  await socket.read();
  const text = socket.received.join('');
  const events = eventsIn(text);
  expect(events.at(-1).usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 30_000 });
  expect(events.at(-2).choices[0].finish_reason).toBe('length');
  expect(text).toContain('data: [DONE]\n\n');
  expect(plan.generations[0]!.taken).toBe(30_000);
});

test('when the client goes, what still runs is removed once, and what ended is not', () => {
  const { listeners, removed, response, ended } = startAnswer({
    prompt: [[5], [6], [7]],
    max_tokens: 10,
    ignore_eos: true,
    stream: true,
  });
  listeners[1]!(10, true);
  response.emit('close');
  expect(removed).toEqual([0, 2]);
  expect(ended()).toBe(1);
  // A token that was under way does nothing.
  listeners[0]!(3, false);
});
