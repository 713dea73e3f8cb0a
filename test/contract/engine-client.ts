// A client of an engine's HTTP API for tests: plain fetch, answers as they came, streams chunk by chunk.

// biome-ignore lint/suspicious/noExplicitAny: answers are looked at field by field
export type Json = any;

export async function post(
  base: string,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Response> {
  return fetch(base + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
}

export async function postJson(base: string, path: string, body: unknown, headers?: Record<string, string>) {
  const response = await post(base, path, body, headers);
  return { status: response.status, headers: response.headers, json: (await response.json()) as Json };
}

/** Payloads of the `data:` events of a stream, the final `[DONE]` included. */
export async function* eventsOf(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
    rest += decoder.decode(bytes, { stream: true });
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const event = rest.slice(0, end);
      rest = rest.slice(end + 2);
      if (event.startsWith('data: ')) yield event.slice(6);
    }
  }
  if (rest !== '') throw new Error(`The stream ends within an event: ${rest}`);
}

export interface Streamed {
  readonly status: number;
  readonly contentType: string | null;
  readonly chunks: readonly Json[];
  /** The last event was `[DONE]`. */
  readonly done: boolean;
  /** Of choice 0. */
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly promptTokenIds: readonly number[] | null;
  readonly finishReason: string | null;
}

export async function postStream(
  base: string,
  path: string,
  body: object,
  headers: Record<string, string> = {},
): Promise<Streamed> {
  const response = await post(base, path, { ...body, stream: true }, headers);
  const chunks: Json[] = [];
  let done = false;
  for await (const event of eventsOf(response)) {
    if (done) throw new Error('Something follows [DONE].');
    if (event === '[DONE]') done = true;
    else chunks.push(JSON.parse(event));
  }
  const choices = chunks.flatMap((chunk) => chunk.choices ?? []).filter((choice: Json) => choice.index === 0);
  return {
    status: response.status,
    contentType: response.headers.get('content-type'),
    chunks,
    done,
    text: choices.map((choice: Json) => choice.text ?? choice.delta?.content ?? '').join(''),
    tokenIds: choices.flatMap((choice: Json) => choice.token_ids ?? []),
    promptTokenIds: chunks[0]?.choices?.[0]?.prompt_token_ids ?? chunks[0]?.prompt_token_ids ?? null,
    finishReason: choices.at(-1)?.finish_reason ?? null,
  };
}

/** Sum of a metric's samples (all label sets); NaN when there is none. */
export async function metric(base: string, name: string): Promise<number> {
  const text = await (await fetch(`${base}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.length === 0 ? Number.NaN : lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** Asks until the answer is the wanted one; the test's own time-out ends it otherwise. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}
