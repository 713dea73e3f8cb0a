// Reads an engine's event stream on its way to the client: whole events only, one pass of searches for four keys, no JSON
// parser and no copy where nothing has to be taken out. What is learnt goes into StreamProgress.
//
// Why searching raw text for `"token_ids":` is exact: inside a JSON string a quote is escaped, so that `…"` followed by a
// colon cannot be content; a *value* "token_ids" is followed by a comma or a bracket, and is passed over.
import type { InferenceRequest } from './inference-request.ts';
import type { StreamProgress } from './stream-progress.ts';

/** Longest unfinished event that is kept, bytes; an engine that sends more is broken. */
const MAX_EVENT_BYTES = 32 * 1024 * 1024;

const IDS = '"token_ids"';
const PROMPT_IDS = '"prompt_token_ids"';
const FINISH = '"finish_reason"';

/** Why an event stream stopped before its end. */
export type StreamStop =
  | { readonly kind: 'aborted' }
  | { readonly kind: 'error'; readonly json: string }
  | { readonly kind: 'garbage'; readonly why: string };

export interface SegmentScanner {
  /** Set when the stream must not be read on. */
  readonly stopped: StreamStop | null;
  /** Takes the next bytes; returns what goes to the client, as bytes or as text in latin1 (may be empty). */
  feed(chunk: Buffer): Buffer | string;
}

/** Index after `"key" :` and space when `at` points at a key, -1 when it is a string value of that name. */
function valueAfterKey(text: string, at: number, key: string): number {
  let i = at + key.length;
  while (text.charCodeAt(i) === 0x20) i++;
  if (text.charCodeAt(i) !== 0x3a) return -1;
  i++;
  while (text.charCodeAt(i) === 0x20) i++;
  return i;
}

/** Cursor over the occurrences of one key; each byte of a chunk is searched once per key. */
class KeyCursor {
  readonly #key: string;
  #next = -1;
  /** Where the value found last begins, and its key. */
  value = -1;
  keyAt = -1;

  constructor(key: string) {
    this.#key = key;
  }

  reset(): void {
    this.#next = -1;
  }

  /** Is there such a key in [from, to)? Sets {@link value} and {@link keyAt}. */
  find(text: string, from: number, to: number): boolean {
    if (this.#next < from) this.#search(text, from);
    while (this.#next < to) {
      this.keyAt = this.#next;
      this.value = valueAfterKey(text, this.keyAt, this.#key);
      if (this.value >= 0) return true;
      this.#search(text, this.keyAt + 1);
    }
    return false;
  }

  #search(text: string, from: number): void {
    const found = text.indexOf(this.#key, from);
    this.#next = found < 0 ? Number.POSITIVE_INFINITY : found;
  }
}

/** Scans the stream of the engine that began the answer: events pass as they are, minus what the client did not ask for. */
export class StreamScanner implements SegmentScanner {
  readonly #request: InferenceRequest;
  readonly #progress: StreamProgress;
  readonly #ids = new KeyCursor(IDS);
  readonly #promptIds = new KeyCursor(PROMPT_IDS);
  readonly #finish = new KeyCursor(FINISH);
  readonly #output: KeyCursor;
  /** Bytes of an event whose end has not come, as latin1. */
  #tail = '';
  /** Pairs [from, to) of the current text that the client does not get. */
  readonly #cuts: number[] = [];
  stopped: StreamStop | null = null;

  constructor(request: InferenceRequest, progress: StreamProgress) {
    this.#request = request;
    this.#progress = progress;
    this.#output = new KeyCursor(request.api === 'chat' ? '"content"' : '"text"');
  }

  feed(chunk: Buffer): Buffer | string {
    if (this.stopped !== null) return '';
    const fresh = this.#tail === '';
    const text = fresh ? chunk.toString('latin1') : this.#tail + chunk.toString('latin1');
    this.#cuts.length = 0;
    this.#ids.reset();
    this.#promptIds.reset();
    this.#finish.reset();
    this.#output.reset();
    let at = 0;
    while (this.stopped === null) {
      const end = eventEnd(text, at);
      if (end < 0) break;
      this.#event(text, at, end);
      at = end;
    }
    this.#tail = at === text.length || this.stopped !== null ? '' : text.slice(at);
    if (this.#tail.length > MAX_EVENT_BYTES) {
      this.stopped = { kind: 'garbage', why: `an event of more than ${MAX_EVENT_BYTES} bytes` };
    }
    if (this.#cuts.length === 0) return fresh && at === chunk.length ? chunk : text.slice(0, at);
    return withoutCuts(text, at, this.#cuts);
  }

  #event(text: string, from: number, to: number): void {
    // Comments and fields other than data pass.
    if (!text.startsWith('data:', from)) return;
    let data = from + 5;
    while (text.charCodeAt(data) === 0x20) data++;
    if (text.startsWith('[DONE]', data)) {
      this.#progress.done = true;
      return;
    }
    if (text.startsWith('{"error"', data)) {
      this.stopped = { kind: 'error', json: latin1ToUtf8(text.slice(data, to).trimEnd()) };
      this.#cutEvent(from, to);
      return;
    }
    this.#data(text, from, to);
    if (this.#progress.firstEvent === null && this.stopped === null) {
      const cuts = this.#cuts.filter((place) => place >= from).map((place) => place - from);
      this.#progress.firstEvent = withoutCuts(text.slice(from, to), to - from, cuts).slice(data - from);
    }
  }

  #data(text: string, from: number, to: number): void {
    const progress = this.#progress;
    const { tracksIds, wantsIds } = this.#request;
    if (tracksIds && progress.promptItems === null && this.#promptIds.find(text, from, to)) {
      const { keyAt, value } = this.#promptIds;
      if (text.charCodeAt(value) === 0x5b) {
        const close = text.indexOf(']', value);
        progress.promptItems = text.slice(value + 1, close);
        progress.promptTokens = itemCount(progress.promptItems);
        if (!wantsIds) this.#cutMember(text, keyAt, close + 1);
      }
    }
    const before = progress.generated;
    const textedBefore = progress.texted;
    let hasIds = false;
    if (tracksIds && this.#ids.find(text, from, to)) {
      const { keyAt, value } = this.#ids;
      if (text.charCodeAt(value) === 0x5b) {
        hasIds = true;
        const close = this.#takeIds(text, value);
        if (!wantsIds) this.#cutMember(text, keyAt, close);
      }
    }
    const hasText =
      this.#output.find(text, from, to) &&
      text.charCodeAt(this.#output.value) === 0x22 &&
      text.charCodeAt(this.#output.value + 1) !== 0x22;
    if (hasText) {
      // Without ids each event with text counts as one token, until usage tells better.
      if (!hasIds) progress.generated++;
      progress.texted = progress.generated;
    } else if (progress.generated === before && !progress.otherOutput) {
      progress.otherOutput = hasOtherOutput(text.slice(from, to));
    }
    if (!this.#finish.find(text, from, to)) this.#usage(text, from, to);
    else if (text.charCodeAt(this.#finish.value) === 0x22) {
      if (text.startsWith('"abort"', this.#finish.value)) {
        // The engine gave up, not the model. Nothing of this event is delivered; its tokens will be made again.
        this.stopped = { kind: 'aborted' };
        this.#cutEvent(from, to);
        progress.texted = textedBefore;
        progress.ids.truncate(before);
        progress.generated = before;
      } else progress.finished = true;
    }
  }

  /** @returns the index after the closing bracket. */
  #takeIds(text: string, open: number): number {
    const progress = this.#progress;
    let i = open + 1;
    let id = -1;
    for (;;) {
      const code = text.charCodeAt(i++);
      if (code >= 0x30 && code <= 0x39) id = (id < 0 ? 0 : id * 10) + code - 0x30;
      else if (code === 0x2c || code === 0x5d) {
        if (id >= 0) {
          progress.ids.push(id);
          progress.generated++;
        }
        id = -1;
        if (code === 0x5d) return i;
      } else if (code !== 0x20) {
        this.stopped = { kind: 'garbage', why: 'token ids that are no numbers' };
        return i;
      }
    }
  }

  /** The chunk with usage and no choices: lengths are learnt from it, and it is hidden when we asked for it. */
  #usage(text: string, from: number, to: number): void {
    const event = text.slice(from, to);
    const counts = usageCounts(event);
    if (counts === null) return;
    const progress = this.#progress;
    if (progress.ids.length === 0) progress.generated = counts.completionTokens;
    progress.promptTokens ??= counts.promptTokens;
    progress.usageDelivered = !this.#request.hidesUsage;
    if (this.#request.hidesUsage) this.#cutEvent(from, to);
  }

  /** Takes a whole event out, in place of the cuts made inside it. */
  #cutEvent(from: number, to: number): void {
    while (this.#cuts.length > 0 && this.#cuts.at(-1)! > from) this.#cuts.length -= 2;
    this.#cuts.push(from, to);
  }

  /** Takes a member of an object out, with the comma before it or, where it is the first, the one after. */
  #cutMember(text: string, keyAt: number, valueEnd: number): void {
    let from = keyAt;
    let to = valueEnd;
    while (text.charCodeAt(from - 1) === 0x20) from--;
    if (text.charCodeAt(from - 1) === 0x2c) from--;
    else {
      while (text.charCodeAt(to) === 0x20) to++;
      if (text.charCodeAt(to) === 0x2c) to++;
    }
    // Cuts are made in order of the text, but for the prompt's ids, which may stand after the token ids.
    const cuts = this.#cuts;
    if (cuts.length > 0 && cuts.at(-2)! > from) cuts.splice(cuts.length - 2, 0, from, to);
    else cuts.push(from, to);
  }
}

/** Index after the blank line that ends the event which begins at `from`, or -1. */
export function eventEnd(text: string, from: number): number {
  const lf = text.indexOf('\n\n', from);
  if (lf >= 0) return lf + 2;
  const crlf = text.indexOf('\r\n\r\n', from);
  return crlf < 0 ? -1 : crlf + 4;
}

function withoutCuts(text: string, end: number, cuts: readonly number[]): string {
  let out = '';
  let from = 0;
  for (let i = 0; i < cuts.length; i += 2) {
    out += text.slice(from, cuts[i]);
    from = cuts[i + 1]!;
  }
  return out + text.slice(from, end);
}

function itemCount(items: string): number {
  if (items.trim() === '') return 0;
  let count = 1;
  for (let at = items.indexOf(','); at >= 0; at = items.indexOf(',', at + 1)) count++;
  return count;
}

/** Reasoning text or tool calls that are not null or empty. */
const hasOtherOutput = (event: string): boolean =>
  /"(?:reasoning|reasoning_content)" ?: ?"[^"]/.test(event) || /"tool_calls" ?: ?\[ ?\{/.test(event);

/** Token counts of a usage object in JSON text, or null. */
export function usageCounts(json: string): { readonly promptTokens: number; readonly completionTokens: number } | null {
  const completion = lastNumber(json, '"completion_tokens"');
  const prompt = lastNumber(json, '"prompt_tokens"');
  return completion === null || prompt === null ? null : { promptTokens: prompt, completionTokens: completion };
}

function lastNumber(json: string, key: string): number | null {
  for (let at = json.lastIndexOf(key); at >= 0; at = at === 0 ? -1 : json.lastIndexOf(key, at - 1)) {
    const value = valueAfterKey(json, at, key);
    if (value < 0) continue;
    const number = Number.parseInt(json.slice(value, value + 16), 10);
    return Number.isNaN(number) ? null : number;
  }
  return null;
}

export const latin1ToUtf8 = (text: string): string => Buffer.from(text, 'latin1').toString('utf8');
export const utf8ToLatin1 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
