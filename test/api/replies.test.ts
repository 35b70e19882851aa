/** The kinds of replies beside JSON, over a real server: text, streams of bytes, and files of the service. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readlink, rename, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestOptions, request } from 'node:http';
import { join } from 'node:path';
import { text as whole } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { listenerOf } from '../../core/api/listener.js';
import { openApi } from '../../core/api/openapi.js';
import { file, type Reply, stream, text } from '../../core/api/replies.js';
import type { ApiRequest } from '../../core/api/request.js';
import { content, type Route, route } from '../../core/api/route.js';
import { at } from '../support/described-answers.js';
import { start } from './harness.js';

const routeOf = (media: string, handle: (request: ApiRequest) => Reply | Promise<Reply>): Route =>
  route('get', '//it', { id: 'getIt', summary: 'Get it', access: 'open', tag: 'service', answer: content(media) }, handle);

/** Serves one route at the address. */
async function serve(t: Test, handle: (request: ApiRequest) => Reply | Promise<Reply>) {
  const logged: string[] = [];
  const h = await start();
  const log = (_level: string, message: string) => void logged.push(message);
  const server = createServer(listenerOf({ store: h.store, log }, [routeOf('text/plain', handle)]));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await h.close();
  });
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the server has no address');
  const url = `http://127.0.0.1:${address.port}/it`;
  const head = (name: string, answer: Response) => answer.headers.get(name);
  return { url, head, logged, folder: h.folder };
}

/** The head of an answer, whose body nobody reads yet. */
const open = (url: string, how: RequestOptions = {}): Promise<IncomingMessage> =>
  new Promise((resolve, reject) =>
    request(url, { agent: false, ...how }, resolve)
      .once('error', reject)
      .end(),
  );

/** As a browser that has the file in its cache; fetch has none, and says so. */
async function askAgain(url: string, how: RequestOptions) {
  const answer = await open(url, how);
  const { etag = '', 'content-type': type = '' } = answer.headers;
  return [answer.statusCode, etag, type, (await whole(answer)).length];
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await what())) await sleep(10);
}

t.test('text has its type and length, and a HEAD gets the same headers', async (t) => {
  const { url, head } = await serve(t, () => text('größer 1\n', { headers: { 'X-Own': 'yes' } }));
  for (const method of ['GET', 'HEAD']) {
    const answer = await fetch(url, { method });
    t.equal(answer.status, 200);
    t.equal(head('content-type', answer), 'text/plain; charset=utf-8');
    t.equal(head('content-length', answer), '11');
    t.equal(head('x-own', answer), 'yes');
    t.equal(head('cache-control', answer), 'no-store');
    t.equal(await answer.text(), method === 'GET' ? 'größer 1\n' : '');
  }
});

t.test('a stream carries bytes and strings as they are', async (t) => {
  const bytes = Buffer.from([0, 255, 128, 10, 13]);
  async function* pieces() {
    yield bytes;
    yield '';
    yield new Uint8Array(0);
    yield new Uint8Array(bytes);
    yield 'ö';
  }
  const headers = { 'Content-Disposition': 'attachment; filename="it"' };
  const { url, head } = await serve(t, () => stream(pieces(), { type: 'application/x-tar', headers }));
  const answer = await fetch(url);
  t.equal(head('content-type', answer), 'application/x-tar');
  t.equal(head('content-disposition', answer), headers['Content-Disposition']);
  t.same(Buffer.from(await answer.arrayBuffer()), Buffer.concat([bytes, bytes, Buffer.from('ö')]));
  t.equal((await fetch(url, { method: 'HEAD' })).status, 200);
});

t.test('a stream goes no faster than its client reads, and ends when the client goes', async (t) => {
  const piece = Buffer.alloc(4 << 20, 'x');
  let made = 0;
  let hasEnded = false;
  async function* pieces() {
    try {
      for (;;) {
        made++;
        yield piece;
      }
    } finally {
      hasEnded = true;
    }
  }
  const { url, logged } = await serve(t, () => stream(pieces(), { type: 'application/octet-stream' }));
  const answer = await open(url);
  let before = -1;
  await until(async () => {
    before = made;
    await sleep(200);
    return before === made;
  });
  t.ok(made * 4 < 32, `${made * 4} MiB for a client that reads nothing`);
  let received = 0;
  answer.on('data', (data: Buffer) => {
    received += data.length;
  });
  await until(() => received > 64 << 20);
  t.ok(made * 4 > 64, 'it goes on when the client does');
  t.notOk(hasEnded);
  answer.destroy();
  await until(() => hasEnded);
  t.same(logged, [], 'a client may go');
});

t.test('a stream that fails cuts the connection and is logged', async (t) => {
  async function* pieces() {
    yield 'half';
    throw new Error('the disk is gone');
  }
  const { url, logged } = await serve(t, () => stream(pieces(), { type: 'text/plain' }));
  await t.rejects(fetch(url).then((answer) => answer.text()));
  t.same(logged, ['an answer broke off']);
});

/** How many descriptors of this process are of files in the folder. */
async function openIn(folder: string): Promise<number> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(links)).filter((to) => to.startsWith(`${folder}/page`)).length;
}

t.test('a file has its length, type and date, and is sent again only when it has changed', async (t) => {
  const { url, head, folder } = await serve(t, () => file(path));
  const path = join(folder, 'page.html');
  const page = 'x'.repeat(300_000);
  await writeFile(path, page);
  await utimes(path, 1_700_000_000, 1_700_000_000);
  const first = await fetch(url);
  t.ok((await first.text()) === page);
  t.equal(head('content-type', first), 'text/html; charset=utf-8');
  t.equal(head('content-length', first), '300000');
  t.equal(head('last-modified', first), 'Tue, 14 Nov 2023 22:13:20 GMT');
  t.equal(head('cache-control', first), 'no-cache');
  const tag = head('etag', first) ?? '';
  t.match(tag, /^"[\w-]+"$/);
  const bare = await fetch(url, { method: 'HEAD' });
  t.same([bare.status, head('content-length', bare), head('etag', bare), await bare.text()], [200, '300000', tag, '']);
  const conditions = [{ 'if-none-match': tag }, { 'if-modified-since': 'Tue, 14 Nov 2023 22:13:20 GMT' }];
  for (const [method, headers] of [...conditions.map((one) => ['GET', one] as const), ['HEAD', conditions[0] ?? {}] as const]) {
    t.same(await askAgain(url, { method, headers }), [304, tag, '', 0], `${method} ${JSON.stringify(headers)}`);
  }
  await writeFile(`${path}.new`, page.replaceAll('x', 'y'));
  await utimes(`${path}.new`, 1_700_000_000, 1_700_000_000); // as a reproducible build sets it
  await rename(`${path}.new`, path);
  const [status, newTag, , length] = await askAgain(url, { headers: { 'if-none-match': tag } });
  t.same([status, length], [200, page.length]);
  t.not(newTag, tag);
  await writeFile(path, '');
  const empty = await fetch(url);
  t.same([empty.status, head('content-length', empty), await empty.text()], [200, '0', '']);
  await until(async () => (await openIn(folder)) === 0);
});

t.test('a client that goes closes the file', async (t) => {
  const { url, folder } = await serve(t, () => file(join(folder, 'page.bin')));
  await writeFile(join(folder, 'page.bin'), Buffer.alloc(64 << 20));
  const answer = await open(url);
  t.equal(await openIn(folder), 1);
  answer.destroy();
  await until(async () => (await openIn(folder)) === 0);
});

t.test('what is no file is not found, and nothing of the file is in that answer', async (t) => {
  const { url, head, folder, logged } = await serve(t, () => file(join(folder, 'page'), { headers: { 'X-Own': 'yes' } }));
  const path = join(folder, 'page');
  const missing = async (what: string) => {
    const answer = await fetch(url);
    t.equal(answer.status, 404, what);
    t.equal(head('content-type', answer), 'application/json; charset=utf-8');
    t.same([head('x-own', answer), head('etag', answer), head('cache-control', answer)], [null, null, 'no-store']);
    t.equal(await answer.text(), '{"error":{"code":404,"message":"Not Found: there is no file page"}}');
  };
  await missing('absent');
  await mkdir(path);
  await missing('a folder');
  await rename(path, `${path}.folder`);
  await symlink('/etc/hostname', path);
  await missing('a link');
  await rename(path, `${path}.link`);
  execFileSync('mkfifo', [path]);
  await missing('a FIFO');
  t.equal(await openIn(folder), 0);
  t.same(logged, []);
});

t.test('the description names the media type of such an answer', async (t) => {
  for (const [media, schema] of [
    ['text/plain', { type: 'string' }],
    ['application/x-tar', { type: 'string', format: 'binary' }],
  ] as const) {
    const description = openApi([routeOf(media, () => text(''))]);
    t.same(at(description, 'paths', '/it', 'get', 'responses', '200', 'content'), { [media]: { schema } });
  }
});
