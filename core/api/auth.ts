/** Setup of the first admin, login, logout, access checks, and a throttle against guessing. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { Mutex } from '../primitives/mutex.js';
import { parse } from '../schemas.js';
import type { Session } from '../store/index.js';
import type { ApiDeps } from './deps.js';
import { ApiError } from './errors.js';
import { json, type Reply } from './replies.js';
import { type ApiRequest, requireLogin, toBody } from './request.js';
import { one, type Route, route, rowsOf } from './route.js';
import { localTime } from './values.js';

const answer = one('session');
const rows = rowsOf({
  createFirstAdmin: {
    summary: 'Make the first admin',
    access: 'open',
    tag: 'session',
    body: { schema: 'setup' },
    answer: one('first-admin'),
    errors: { 403: 'The code differs from the one on the console', 409: 'An admin already exists' },
  },
  logIn: {
    summary: 'Log in',
    access: 'open',
    tag: 'session',
    body: { schema: 'login', mayBeForm: true },
    answer,
    errors: { 401: 'Wrong user name or password', 429: 'Too many wrong tries' },
  },
  refreshLogin: { summary: 'Extend the session', access: 'user', tag: 'session', answer },
  logOut: { summary: 'Log out', access: 'user', tag: 'session', answer },
});

// A working day: a polling client logs in again once a day at most, and a stolen cookie expires overnight.
const sessionMs = 12 * 3600_000;
// At five guesses a minute an online search of even a weak password is hopeless.
const guesses = 5;
const windowMs = 60_000;
const remembered = 10_000;

interface Throttle {
  /** @throws ApiError too_many */
  check(who: string): void;
  failed(who: string): void;
  passed(who: string): void;
  /** Takes back one failure: the guess was never checked. */
  unchecked(who: string): void;
}

function throttle(): Throttle {
  const failures = new Map<string, { count: number; until: number }>();
  const live = (who: string) => {
    const entry = failures.get(who);
    return entry !== undefined && entry.until > Date.now() ? entry : undefined;
  };
  return {
    check(who) {
      const entry = live(who);
      if (entry === undefined || entry.count < guesses) return;
      const seconds = Math.ceil((entry.until - Date.now()) / 1000);
      throw new ApiError('too_many', `too many wrong tries; try again in ${seconds} s`, { headers: { 'Retry-After': String(seconds) } });
    },
    failed(who) {
      const count = (live(who)?.count ?? 0) + 1;
      const oldest = failures.keys().next().value;
      if (failures.size >= remembered && oldest !== undefined) failures.delete(oldest);
      failures.set(who, { count, until: Date.now() + windowMs });
    },
    passed: (who) => void failures.delete(who),
    unchecked(who) {
      const entry = live(who);
      if (entry !== undefined) failures.set(who, { ...entry, count: entry.count - 1 });
    },
  };
}

/** Parses a form, as existing clients send it, or JSON. */
async function loginBody(request: ApiRequest): Promise<{ username: string; password: string }> {
  const text = await request.text();
  return parse('login', text.trimStart().startsWith('{') ? toBody(text) : Object.fromEntries(new URLSearchParams(text)));
}

function showLogin(session: Session): object {
  return { anonymous: false, isAdmin: session.isAdmin, logintime: localTime(session.created), username: session.username };
}

function sameCode(given: string, kept: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return kept !== '' && timingSafeEqual(digest(given), digest(kept));
}

async function setup(deps: ApiDeps, request: ApiRequest, slow: Throttle): Promise<Reply> {
  const wanted = parse('setup', toBody(await request.text()));
  if (await deps.store.users.any()) throw new ApiError('conflict', 'there is an admin already; log in');
  const who = `setup ${request.address}`;
  slow.check(who);
  const kept = await readFile(deps.setupCodeFile, 'utf8').catch(() => '');
  if (!sameCode(wanted.code.trim(), kept.trim())) {
    slow.failed(who);
    throw new ApiError('forbidden', 'the code is not the one shown on the console');
  }
  if (!(await deps.store.users.createFirst(wanted.username, wanted.password))) {
    throw new ApiError('conflict', 'there is an admin already; log in');
  }
  await rm(deps.setupCodeFile, { force: true });
  deps.log('info', 'the first admin was made', { user: wanted.username });
  return json({ isAdmin: true, username: wanted.username });
}

async function login(deps: ApiDeps, request: ApiRequest, slow: Throttle): Promise<Reply> {
  const { username, password } = await loginBody(request);
  const who = `${request.address} ${username}`;
  slow.check(who);
  // Count before the slow check, so that parallel guesses cannot slip through.
  slow.failed(who);
  const user = await deps.store.users.verify(username, password, request.gone).catch((error: unknown) => {
    slow.unchecked(who);
    throw error;
  });
  if (user === undefined) {
    deps.log('warn', 'a login failed', { user: username, address: request.address });
    throw new ApiError('unauthorized', 'wrong user name or password');
  }
  slow.passed(who);
  const { token, session } = await deps.store.sessions.create(user, sessionMs);
  return json(showLogin(session), { session: token });
}

async function logout(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const session = requireLogin(request);
  await deps.store.sessions.delete(session);
  return json({ anonymous: true, isAdmin: false, logintime: '', username: '' }, { session: null });
}

export function authRoutes(deps: ApiDeps): Route[] {
  const slow = throttle();
  const once = new Mutex();
  const refresh = async (request: ApiRequest) => json(showLogin(await deps.store.sessions.extend(requireLogin(request), sessionMs)));
  return [
    route('post', '/setup', rows.createFirstAdmin, (c) => once.run(() => setup(deps, c, slow))),
    route('post', '/login', rows.logIn, (c) => login(deps, c, slow)),
    route('get', '/login_refresh', rows.refreshLogin, refresh),
    route('put', '/logout', rows.logOut, (c) => logout(deps, c)),
  ];
}

/** @throws ApiError unauthorized, forbidden */
export function checkAccess(route: Pick<Route, 'access'>, session: Session | undefined): void {
  if (route.access === 'open') return;
  if (session === undefined) throw new ApiError('unauthorized', 'log in first');
  if (route.access === 'admin' && !session.isAdmin) throw new ApiError('forbidden', 'only an admin may do this');
}

/** Rejects cross-site requests by Origin and Sec-Fetch-Site, which browsers send; curl sends neither and passes.
 *  @throws ApiError forbidden for a change that another site makes the browser send */
export function checkSite(method: string, host: string, header: (name: string) => string): void {
  if (['GET', 'HEAD', 'OPTIONS'].includes(method)) return;
  const origin = header('Origin');
  const foreign = origin !== '' && (!URL.canParse(origin) || new URL(origin).host !== host);
  if (foreign || header('Sec-Fetch-Site') === 'cross-site') {
    throw new ApiError('forbidden', 'a page of another site may not change anything here');
  }
}
