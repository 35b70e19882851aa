/** A client of the service's API, as a user's program would be. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobKind } from '../../core/jobs/job.js';
import { type DescribedAnswers, describedBy, type GivenAnswer } from './described-answers.js';

export type Body = Readonly<Record<string, unknown>>;
export const isBody = (value: unknown): value is Body => typeof value === 'object' && value !== null && !Array.isArray(value);
export const part = (value: unknown, key: string): unknown => (isBody(value) ? value[key] : undefined);

/** Whether the state says that the job's run has ended. */
export function hasEnded(state: unknown): state is Body {
  return isBody(state) && !['init', 'waiting', 'running'].includes(String(state.code)) && state.result !== undefined;
}

/** A time of day half a day from now, so that a job runs only on request. */
export function notSoon(): { readonly repeat: 'daily'; readonly start: number } {
  const now = new Date();
  return { repeat: 'daily', start: (now.getHours() * 60 + now.getMinutes() + 720) % 1440 };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: unknown;
}

const account = { username: 'admin', password: 'a long passphrase for tests' };

export class ApiClient {
  #cookie = '';
  #described: DescribedAnswers | undefined;

  /** `address` is http://HOST:PORT */
  constructor(readonly address: string) {}

  /** The session's cookie, for a request that a test makes by itself. */
  get cookie(): string {
    return this.#cookie;
  }

  /** Makes the first admin with the one-time code, if one is given, and logs in as that user. */
  async logIn(setupCode?: string): Promise<void> {
    if (setupCode !== undefined) await this.call('POST', '/setup', { code: setupCode, ...account });
    await this.call('POST', '/login', account);
    this.#described = await describedBy(this.address);
  }

  /** Checks an answer against the service's OpenAPI description, once the client has logged in. @throws Error for an answer that differs */
  check(method: string, path: string, answer: GivenAnswer): void {
    this.#described?.check(method, `/api/v1${path}`, answer);
  }

  /** Sends any request below /api/v1, with the session's cookie. Sends the body as `curl -d` does. */
  async ask(method: string, path: string, body?: Body | string | Blob, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const answer = await fetch(`${this.address}/api/v1${path}`, {
      method,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        ...(this.#cookie === '' ? {} : { cookie: this.#cookie }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' || body instanceof Blob ? body : JSON.stringify(body) }),
    });
    const cookies = answer.headers.getSetCookie().map((line) => line.split(';')[0]);
    if (cookies.length > 0) this.#cookie = cookies.join('; ');
    const text = await answer.text();
    const json: unknown = text === '' ? undefined : JSON.parse(text);
    this.check(method, path, { status: answer.status, type: answer.headers.get('content-type') ?? '', json });
    return { status: answer.status, headers: answer.headers, text, json };
  }

  /** The answer's JSON. @throws Error with the service's own message */
  async call(method: string, path: string, body?: Body): Promise<unknown> {
    const { status, text, json } = await this.ask(method, path, body);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text}`);
    return json;
  }

  /** Makes a job. @returns its id */
  async create(kind: JobKind, body: Body): Promise<number> {
    const id = part(await this.call('POST', `/${kind}`, body), 'id');
    if (typeof id !== 'number') throw new Error(`POST /${kind} answered without an id`);
    return id;
  }

  /** Waits until the job's run has ended. @returns its full state, whatever the result */
  async settled(kind: JobKind, id: number, limitMs = 300_000): Promise<Body> {
    const began = Date.now();
    while (Date.now() < began + limitMs) {
      if (hasEnded(part(await this.call('GET', `/${kind}/${id}`), 'state'))) {
        // the short answer may be older than the full one
        const state = part(await this.call('GET', `/${kind}/${id}?view=full`), 'state');
        if (hasEnded(state)) return state;
      }
      await sleep(Math.min(1000, Math.max(50, (Date.now() - began) / 10))); // fewer requests on a slow machine
    }
    throw new Error(`${kind} ${id} did not end in ${limitMs / 1000} s`);
  }

  /** As settled. @throws Error when the run failed */
  async ended(kind: JobKind, id: number, limitMs = 300_000): Promise<Body> {
    const state = await this.settled(kind, id, limitMs);
    if (state.result !== 0) throw new Error(`${kind} ${id} failed: ${JSON.stringify(state)}`);
    return state;
  }

  /** Runs a backup now and waits for its end. @throws Error when the run failed */
  async backUp(id: number): Promise<Body> {
    await this.call('PUT', `/backup/${id}/run`);
    return this.ended('backup', id);
  }
}
