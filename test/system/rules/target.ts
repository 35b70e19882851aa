/** Targets and the folders of targets. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Body } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { backupBody, idOf, restoreBody, targetBody } from '../bed/request-bodies.js';
import type { Rules } from './rules.js';

/** Files below a folder whose bytes hold a word. */
async function holding(folder: string, word: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const hits = await Promise.all(files.map(async (file) => ((await readFile(file)).includes(word) ? [file] : [])));
  return hits.flat();
}

const make = async (a: Appliance, more: Body = {}): Promise<number> => idOf(await a.service.call('POST', '/target', targetBody(more)));

export const targetRules: Rules = {
  'a password is stored encrypted and never returned': async (t, { a, curl }) => {
    const secret = 'a-password-of-no-other-place';
    const id = await make(a, { password: secret });
    for (const path of [`/target/${id}`, `/target/${id}?view=full`, '/target/', '/target/?view=full'])
      t.notOk((await curl.ask('GET', path)).text.includes('password'), path);
    t.notOk((await curl.ask('PUT', `/target/${id}`, { body: JSON.stringify({ password: `${secret}-too` }) })).text.includes('password'));
    t.same(await holding(a.stateFolder, secret), [], 'nor does it lie readable in the state folder');
    await a.service.call('DELETE', `/target/${id}`);
  },

  'an address is a host with or without a port': async (t, { a }) => {
    for (const ipaddr of ['127.0.0.1', '127.0.0.1:22', 'nas', 'nas.lan', 'nas_2.lan:445', '[::1]:22', '[2001:db8::7]', '10.0.0.1:65535']) {
      const { status, json } = await a.service.ask('POST', '/target', targetBody({ ipaddr }));
      t.equal(status, 200, ipaddr);
      await a.service.call('DELETE', `/target/${idOf(json)}`);
    }
  },

  'a target from GET can be put back, and a PUT changes only the named keys': async (t, { a }) => {
    const id = await make(a, { desc: 'first', encrypt: true, base: '/a/b' });
    const before = await a.service.call('GET', `/target/${id}`);
    t.strictSame(await a.service.call('PUT', `/target/${id}`, Object.assign({}, before)), before);
    t.strictSame(await a.service.call('PUT', `/target/${id}`, { desc: 'second' }), Object.assign({}, before, { desc: 'second' }));
    await a.service.call('DELETE', `/target/${id}`);
  },

  'a target that does not answer is reported within ten seconds': async (t, { a, curl }) => {
    const id = await make(a);
    const began = Date.now();
    t.strictSame((await curl.ask('GET', `/target/${id}/ping`)).json, { alive: false });
    t.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
    t.match(await curl.ask('GET', `/target/${id}/dirs/some/folder`), {
      status: 503,
      json: { error: { code: 503, message: /: 127\.0\.0\.1$/ } },
    });
    await a.service.call('DELETE', `/target/${id}`);
  },

  'a target in use is not deleted, and the error names its jobs': async (t, { a }) => {
    const profile = await make(a);
    const dest = { target: 'remote', profile, path: '/x' };
    const backup = idOf(await a.service.call('POST', '/backup', backupBody({ job_name: 'ByNight', dest })));
    const src = { target: 'remote', profile, path: '/x' };
    const restore = idOf(await a.service.call('POST', '/restore', restoreBody({ job_name: 'Waits', disable: true, src })));
    const refused = await a.service.ask('DELETE', `/target/${profile}`);
    t.match(refused, { status: 409, json: { error: { message: /backup \d+ \(ByNight\), restore \d+ \(Waits\)/ } } });
    await a.service.call('DELETE', `/backup/${backup}`);
    await a.service.call('DELETE', `/restore/${restore}`);
    t.match(await a.service.ask('DELETE', `/target/${profile}`), { status: 200, json: [profile] });
  },

  'the folders of a share are listed by name, without files and hidden folders, with records marked': async (t, { a, curl }) => {
    for (const folder of ['b b', 'b%20b/only-here', 'A', '.hidden', 'container-backup@Some job', 'ü'])
      await mkdir(join(a.share, 'dirs', folder), { recursive: true });
    await writeFile(join(a.share, 'dirs/file'), '');
    const dirs = async (path: string) => (await curl.ask('GET', `/target/local/dirs/${path}`)).json;
    const named = (name: string, type = 'd') => ({ is_dir: true, name, type, write: true });
    t.strictSame(await dirs(''), [named('test')]);
    const all = [named('A'), named('b b'), named('b%20b'), named('container-backup@Some job', 'b'), named('ü')];
    t.strictSame(await dirs('test/dirs'), all);
    t.strictSame(await dirs('test/dirs/'), all);
    t.strictSame(await dirs('test/dirs/b%20b'), [], 'a path is decoded once');
    t.strictSame(await dirs('test/dirs/b%2520b'), [named('only-here')], 'and only once');
    t.strictSame(await dirs('test/dirs/%C3%BC'), []);
    const refused = ['test/..', 'test/%2e%2e/x', 'test%2f..%2f..', '..', 'test/%00', 'test//x', 'test/./x', '%2Fetc', '%ff', '%zz', '%'];
    for (const path of refused)
      t.match(await curl.ask('GET', `/target/local/dirs/${path}`), { status: 400, json: { error: { code: 400 } } }, path);
    for (const path of ['other', 'test/none', 'test/dirs/file', 'constructor', 'test/dirs/A/none'])
      t.match(await curl.ask('GET', `/target/local/dirs/${path}`), { status: 404, json: { error: { code: 404 } } }, path);
  },
};
