/** Serves a table of routes over HTTP: one function sends every answer, and one every error. Only this file uses Koa; all others see
 *  an ApiRequest and return a Reply. */
import type { IncomingMessage, RequestListener } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import Router from '@koa/router';
import Koa from 'koa';
import { hasCode } from '../primitives/guards.js';
import type { Session } from '../store/index.js';
import { checkAccess, checkSite } from './auth.js';
import type { ApiDeps } from './deps.js';
import { ApiError, apiErrorOf, plainBody, problemBody } from './errors.js';
import { readQuery } from './query.js';
import { eventText, json, type Reply } from './replies.js';
import type { ApiRequest } from './request.js';
import { fullPath, queryKeysOf, type Route } from './route.js';
import { sortKeys } from './values.js';

const bodyLimit = 256 * 1024;
const cookieName = 'session';
// Time limit of a JSON body. The server's own limit is hours, for a bundle over a slow line.
const bodyMs = 60_000;
/** Headers of every answer, unless the reply has others: no cache stores it, and a browser that opens it runs nothing. */
const common = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
};
/** How long a refused client may keep sending, ms. */
const restMs = 30_000;

/** Sends 100 Continue only now, so that a rejected request never uploads its body. Pipes the body into a PassThrough, because a
 *  consumer may destroy it early; destroying ctx.req would close the socket before the answer is out. */
function bodyOf(ctx: Koa.Context): Readable {
  if (asksFirst(ctx)) ctx.res.writeContinue();
  ctx.state.wanted = true;
  const body = new PassThrough().on('error', () => undefined); // the reader gets the error; there may be no reader yet
  finished(ctx.req, { writable: false }).catch((error) => body.destroy(error));
  return ctx.req.pipe(body);
}

const asksFirst = (ctx: Koa.Context): boolean => /100-continue/i.test(ctx.get('Expect'));

async function textOf(ctx: Koa.Context): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const late = setTimeout(() => ctx.req.destroy(), bodyMs);
  try {
    for await (const chunk of bodyOf(ctx)) {
      const buffer = Buffer.from(chunk);
      bytes += buffer.length;
      if (bytes > bodyLimit) throw new ApiError('too_large', `the body must be at most ${bodyLimit} bytes`);
      chunks.push(buffer);
    }
    return Buffer.concat(chunks).toString('utf8');
  } finally {
    clearTimeout(late);
  }
}

async function sessionOf(deps: Pick<ApiDeps, 'store'>, ctx: Koa.Context): Promise<Session | undefined> {
  const bearer = /^Bearer +(\S+)$/i.exec(ctx.get('Authorization'))?.[1];
  const token = bearer ?? ctx.cookies.get(cookieName);
  return token === undefined ? undefined : deps.store.sessions.find(token);
}

function goneSignal(ctx: Koa.Context): AbortSignal {
  const gone = new AbortController();
  ctx.res.once('close', () => gone.abort());
  return gone.signal;
}

/** @throws ApiError bad_request for a wrong query */
function requestOf(ctx: Koa.Context, route: Route, known: Pick<ApiRequest, 'params' | 'session'>): ApiRequest {
  const query = readQuery(ctx.querystring, queryKeysOf(route));
  return {
    ...known,
    query,
    path: ctx.path,
    full: query.view === 'full',
    address: ctx.ip,
    ifMatch: ctx.get('If-Match') || undefined,
    lastEventId: ctx.get('Last-Event-ID'),
    gone: goneSignal(ctx),
    text: () => textOf(ctx),
    length: ctx.req.headers['content-length'] === undefined ? undefined : Number(ctx.req.headers['content-length']),
    stream: () => bodyOf(ctx),
  };
}

function setCookie(ctx: Koa.Context, token: string | null): void {
  ctx.cookies.set(cookieName, token, { httpOnly: true, sameSite: 'strict', secure: ctx.secure, path: '/', overwrite: true });
}

/** Sends every answer. */
function respond(ctx: Koa.Context, reply: Reply): void {
  const { status = 200, headers = {}, session, type = 'application/json' } = reply;
  ctx.status = status;
  ctx.type = type;
  ctx.set({ ...headers });
  if (session !== undefined) setCookie(ctx, session);
  switch (reply.kind) {
    case 'json':
      ctx.body = JSON.stringify(sortKeys(reply.value));
      return;
    case 'text':
      ctx.body = reply.text;
      return;
    case 'stream':
      ctx.body = Readable.from(reply.pieces); // asks for a piece when the one before is written
      return;
    case 'file':
      ctx.body = reply.content;
      ctx.length = reply.size;
      if (ctx.fresh) ctx.status = 304; // this closes the file
      return;
    case 'events':
      ctx.body = Readable.from(eventText(reply.events));
      return;
  }
}

/** Sends the answer and then drains the request. If the socket were closed while the client still sends, TCP would reset it and
 *  lose the answer. */
async function* answerThenRest(text: string, sent: IncomingMessage): AsyncGenerator<string> {
  yield text;
  sent.resume();
  await finished(sent, { writable: false, signal: AbortSignal.timeout(restMs) }).catch(() => sent.destroy()); // the rest is not needed
}

/** Sends every error. */
function refuse(deps: Pick<ApiDeps, 'log'>, ctx: Koa.Context, thrown: unknown): void {
  const error = apiErrorOf(thrown) ?? new ApiError('internal', 'the service failed; its log says more');
  if (error.code === 'internal') {
    deps.log('error', 'a request failed', {
      method: ctx.method,
      path: ctx.path,
      error: thrown instanceof Error ? thrown.stack : String(thrown),
    });
  }
  const head = { status: error.status, headers: error.more.headers ?? {} };
  const wantsProblem = ctx.get('Accept').includes('application/problem+json');
  respond(ctx, wantsProblem ? json(problemBody(error), { ...head, type: 'application/problem+json' }) : json(plainBody(error), head));
  const isSending = !ctx.req.complete && !ctx.req.destroyed && (ctx.state.wanted === true || !asksFirst(ctx));
  if (!isSending || typeof ctx.body !== 'string') return;
  const length = Buffer.byteLength(ctx.body);
  ctx.body = Readable.from(answerThenRest(ctx.body, ctx.req)); // keeps the content type
  ctx.length = length;
}

const isAnswered = ({ body, status }: Koa.Context): boolean => status === 304 || (body !== undefined && body !== null);

/** @throws ApiError for a path or a method that no route has */
function unmatched(ctx: Koa.Context, router: Router): never {
  const methods = new Set(router.match(ctx.path, ctx.method).path.flatMap((layer) => layer.methods));
  if (methods.size === 0) throw new ApiError('not_found', `there is nothing at ${ctx.path}`);
  const allow = [...methods].sort().join(', ');
  throw new ApiError('method_not_allowed', `${ctx.path} takes ${allow}`, { headers: { Allow: allow } });
}

function routerOf(deps: Pick<ApiDeps, 'store'>, routes: readonly Route[]): Router {
  const router = new Router();
  for (const route of routes) {
    router[route.method](fullPath(route), async (ctx) => {
      const session = route.access === 'open' ? undefined : await sessionOf(deps, ctx);
      checkAccess(route, session);
      respond(ctx, { status: route.status ?? 200, ...(await route.handle(requestOf(ctx, route, { params: ctx.params, session }))) });
    });
  }
  return router;
}

/** The client ended the connection. */
const isGone = (error: Error): boolean => hasCode(error, 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'ECONNRESET', 'EPIPE');

export function listenerOf(deps: Pick<ApiDeps, 'store' | 'log'>, routes: readonly Route[]): RequestListener {
  const router = routerOf(deps, routes);
  const app = new Koa();
  // What fails after the head was sent can only end the connection, which Koa does. It tells of that by the stream and by the answer.
  app.on('error', (error: Error, ctx: Koa.Context) => {
    if (isGone(error) || ctx.state.isBroken === true) return;
    ctx.state.isBroken = true;
    deps.log('error', 'an answer broke off', { method: ctx.method, path: ctx.path, error: error.stack });
  });
  app.use(async (ctx, next) => {
    ctx.set(common);
    try {
      checkSite(ctx.method, ctx.host, (name) => ctx.get(name));
      await next();
      if (!isAnswered(ctx)) unmatched(ctx, router);
    } catch (error) {
      refuse(deps, ctx, error);
    }
  });
  app.use(router.routes());
  return app.callback();
}
