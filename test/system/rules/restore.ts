/** Restore jobs: how they name a run, what they make, and that they need only the target. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Body, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import { heldChild } from '../bed/held-run.js';
import { allIn, backedUp, idOf, list, ranAgain, restoreBody, restored, stateOf } from '../bed/request-bodies.js';
import type { Rules } from './rules.js';

const fileOf = (a: Appliance) => join(a.lxcPath, 'small/volumes/data/generation');
const src = (portfolio?: string, path = '/test/restores') => ({ target: 'local', path, ...(portfolio !== undefined && { portfolio }) });
const wholeSeconds = (): number => Math.floor(Date.now() / 1000);
/** Made by the first rule for the others. */
const named = { id: 0, run: '', second: '' };

export const restoreRules: Rules = {
  'the records of the next rules are made: two runs in one, and another record beside it': async (_t, { a }) => {
    const file = fileOf(a);
    await writeFile(file, 'one');
    const dest = { target: 'local', path: '/test/restores' };
    const { id, run } = await backedUp(a.service, { job_name: 'Named', container_id: 'small', dest });
    await writeFile(file, 'two');
    const since = wholeSeconds();
    Object.assign(named, { id, run, second: await ranAgain(a.service, id) });
    while (wholeSeconds() === since) await sleep(20); // a time alone names a run only if no other record has a run of that second
    await backedUp(a.service, { job_name: 'Other', container_id: 'other', dest });
    await backedUp(a.service, { job_name: 'Alone', container_id: 'small', dest: { target: 'local', path: '/test/alone' } });
    await writeFile(file, 'lost');
  },

  'a portfolio names a run by job id, name or folder, with or without a time, or by the time alone': async (t, { a }) => {
    const { id, run, second } = named;
    const file = fileOf(a);
    for (const [portfolio, content] of [
      [String(id), 'two'],
      [`container-backup@Named/${run}`, 'one'],
    ] as const) {
      const { result, error, ...state } = await restored(a.service, { container_id: 'small', src: src(portfolio) });
      t.equal(result, 0, `${portfolio} ${JSON.stringify(error ?? '')}`);
      t.equal(state.run, content === 'one' ? run : second);
      t.equal(await readFile(file, 'utf8'), content, portfolio);
    }
    const planned = async (portfolio?: string, path?: string) => {
      const plan = await a.service.call('POST', '/restore/plan', restoreBody({ src: src(portfolio, path) }));
      return [part(plan, 'record'), part(plan, 'run')];
    };
    for (const name of [String(id), 'Named', 'container-backup@Named']) {
      t.same(await planned(name), ['container-backup@Named', second], name);
      t.same(await planned(`${name}/${run}`), ['container-backup@Named', run], `${name}/${run}`);
    }
    t.same(await planned(run), ['container-backup@Named', run], run);
    t.match(await planned(undefined, '/test/alone'), ['container-backup@Alone'], 'none at all, where one record lies');
  },

  'a portfolio that fits several records or none is refused, and the error lists the records': async (t, { a, ask }) => {
    const all = /container-backup@Named, container-backup@Other/;
    const many = await restored(a.service, { container_id: 'small', src: src() });
    t.match(many, { code: 'completed', result: -1, error: { code: 'conflict', message: all } });
    const none = await restored(a.service, { container_id: 'small', src: src('Absent') });
    t.match(none, { code: 'completed', result: -1, error: { code: 'not_found', message: all } });
    const plan = (portfolio?: string, path?: string) => ask('POST', '/restore/plan', restoreBody({ src: src(portfolio, path) }));
    t.match(await plan(), { status: 409, json: { error: { message: all } } });
    for (const portfolio of ['999', 'Named/2001-01-01_00-00-00', '2001-01-01_00-00-00', 'container-backup@', '..', 'Named/'])
      t.match(await plan(portfolio), { status: 404, json: { error: { message: all } } }, portfolio);
    t.match(await plan(undefined, '/test/nothing-here'), { status: 404 });
  },

  'a disabled restore waits for a request to run': async (t, { a }) => {
    const job = await a.service.call('POST', '/restore', restoreBody({ disable: true, container_id: 'small', src: src('Named') }));
    t.strictSame(part(job, 'state'), { code: 'init' });
    await new Promise((resolve) => setTimeout(resolve, 500));
    t.strictSame(await stateOf(a.service, 'restore', idOf(job)), { code: 'init' });
    t.strictSame(await a.service.call('PUT', `/restore/${idOf(job)}/stop`), job, 'stopping it changes nothing');
    await a.service.call('PUT', `/restore/${idOf(job)}/run`);
    t.match(await a.service.ended('restore', idOf(job)), { code: 'completed', result: 0 });
    t.same(Object.keys(await stateOf(a.service, 'restore', idOf(job))), ['code', 'last_run', 'result']);
    t.strictSame(await a.service.call('DELETE', `/restore/${idOf(job)}`), [idOf(job)]);
  },

  'only the full view shows the name of a restore': async (t, { a }) => {
    const job = await a.service.call('POST', '/restore', restoreBody({ job_name: 'Its name', disable: true, src: src('Named') }));
    t.same(Object.keys(Object(job)), ['container_id', 'disable', 'id', 'src', 'state', 'type']);
    t.match(await a.service.call('GET', `/restore/${idOf(job)}?view=full`), { job_name: 'Its name' });
    t.notOk(JSON.stringify(await a.service.call('GET', '/restore/')).includes('Its name'));
    await a.service.call('DELETE', `/restore/${idOf(job)}`);
  },

  'a plan describes a restore and changes nothing': async (t, { a }) => {
    const before = [await allIn(a.lxcPath), await allIn(a.share)];
    const plan = (more: Body) => a.service.call('POST', '/restore/plan', restoreBody({ src: src('Named'), ...more }));
    const shape = { size: Number, space: Number, conflicts: [], steps: [/\w/] };
    t.match(await plan({ container_id: 'small' }), { ...shape, action: 'replace' });
    t.match(await plan({ container_id: 'brand-new' }), { ...shape, action: 'create' });
    t.match(await a.service.ask('POST', '/restore/plan', restoreBody({ src: src('Absent') })), { status: 404 });
    t.match(await a.service.ask('POST', '/restore/plan', restoreBody({ src: src() })), { status: 409 });
    t.same([await allIn(a.lxcPath), await allIn(a.share)], before);
  },

  'a restore under a new name makes a clone beside the original': async (t, { a }) => {
    const file = fileOf(a);
    a.alsoDestroy('clone');
    await writeFile(file, 'of the original');
    t.match(await restored(a.service, { container_id: 'clone', src: src('Named') }), { result: 0, conflicts: [] });
    t.equal(await readFile(join(a.lxcPath, 'clone/volumes/data/generation'), 'utf8'), 'two');
    t.equal(await readFile(file, 'utf8'), 'of the original');
    for (const name of ['clone', 'small']) t.equal(await lxc('info', a.lxcPath, name, '-sH'), 'RUNNING', name);
    const mac = async (name: string) => /hwaddr = (\S+)/.exec(await readFile(join(a.lxcPath, name, 'config'), 'utf8'))?.[1];
    t.not(await mac('clone'), await mac('small'), 'it has a hardware address of its own');
    t.equal((await stat(join(a.lxcPath, 'clone/rootfs/etc/machine-id'))).size, 0, 'and gets a machine id of its own');
  },

  'a stopped restore leaves no draft and the old container as it was': async (t, { a }) => {
    await backedUp(a.service, { job_name: 'Large', dest: { target: 'local', path: '/test/large' } });
    const before = await allIn(a.lxcPath);
    for (const container_id of ['utest', 'half-made']) {
      const held = heldChild(a.service, 'tar');
      const id = await a.service.create('restore', restoreBody({ container_id, src: src('Large', '/test/large') }));
      await held;
      t.match(await stateOf(a.service, 'restore', id), { code: 'running' });
      t.match(await a.service.ask('PUT', `/restore/${id}/run`), { status: 409 });
      t.match(await a.service.ask('DELETE', `/restore/${id}`), { status: 409 });
      const began = Date.now();
      t.match(part(await a.service.call('PUT', `/restore/${id}/stop`), 'state'), { code: 'completed', result: -2 }, container_id);
      t.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
      t.same(await allIn(a.lxcPath), before, 'nothing is left and nothing is missing');
      t.equal(await lxc('info', a.lxcPath, 'utest', '-sH'), 'RUNNING');
    }
  },

  'an appliance with an empty state restores a backup of another': async (t, { a }) => {
    const file = fileOf(a);
    const { id, run } = named;
    const { stateFolder } = a;
    await a.restart({ stateFolder: join(a.folder, 'another') });
    t.same(await a.service.call('GET', '/backup/'), []);
    t.match(await restored(a.service, { container_id: 'small', src: src(`${id}/${run}`) }), { result: 0, run });
    t.equal(await readFile(file, 'utf8'), 'one');
    const names = list(await a.service.call('GET', '/target/local/dirs/test/restores')).map((one) => [
      part(one, 'name'),
      part(one, 'type'),
    ]);
    t.same(names, [
      ['container-backup@Named', 'b'],
      ['container-backup@Other', 'b'],
    ]);
    await a.restart({ stateFolder });
  },
};
