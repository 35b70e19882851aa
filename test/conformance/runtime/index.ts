import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type Test, test } from 'tap';
import {
  type ContainerState,
  type Description,
  type Draft,
  PluginError,
  type RestorePlan,
  type Runtime,
  type Source,
} from '../../../core/contract/index.js';
import { conflictsOf, testGrants, testPlaces } from './preview.js';

/** What the suite needs from an engine. */
export interface RuntimeConformance {
  readonly name: string;
  open(): Promise<Runtime>;
  /** Makes a running container with one volume of its own (a new folder), which holds a file. */
  makeContainer(name: string): Promise<void>;
  /** Removes the container with its volumes. Does nothing when it is absent. */
  removeContainer(name: string): Promise<void>;
}

/** A container as a backup stores it: the input of draft, and an archive for each source. */
export interface Saved {
  readonly description: Description;
  readonly sources: readonly Source[];
  readonly image: string | undefined;
  readonly archives: string;
}

const tarFlags = ['--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner'];

async function tar(args: readonly string[]): Promise<void> {
  const child: ChildProcess = spawn('tar', [...tarFlags, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  await once(child, 'close');
  // exit code 1: a file changed while tar read it, since the container runs
  if (child.exitCode !== 0 && child.exitCode !== 1) throw new Error(`tar ended with ${child.exitCode}: ${said}`);
}

/** Backs a container up into a folder of archives. The test removes the folder at its end. */
export async function save(t: Test, runtime: Runtime, id: string): Promise<Saved> {
  const archives = await mkdtemp(join(tmpdir(), 'conformance-'));
  t.teardown(() => rm(archives, { force: true, recursive: true }));
  const sources = await runtime.sources(id);
  for (const source of sources) {
    const what = source.kind === 'file' ? ['-C', dirname(source.path), basename(source.path)] : ['-C', source.path, '.'];
    const excludes = source.excludes.map((pattern) => `--exclude=${pattern}`);
    await tar(['--anchored', ...excludes, '-cf', join(archives, `${source.name}.tar`), ...what]);
  }
  return { archives, description: await runtime.describe(id), image: (await runtime.image(id))?.digest, sources };
}

/** The plan that restores what `save` stored. */
export function planOf(saved: Saved, container: string, action: RestorePlan['action']): RestorePlan {
  const sources = saved.sources.map(({ name, origin, kind }) => ({ kind, name, origin }));
  const image = saved.image === undefined ? {} : { image: { digest: saved.image } };
  return { action, container, description: saved.description, sources, ...image };
}

/** Extracts every archive into the draft's folders. */
export async function fill(draft: Draft, saved: Saved): Promise<void> {
  const folders = await draft.folders();
  for (const source of saved.sources) {
    const folder = folders.get(source.name);
    if (folder === undefined) throw new Error(`the draft has no folder for ${source.name}`);
    await tar(['-xpf', join(saved.archives, `${source.name}.tar`), '-C', folder]);
  }
}

export async function stateOf(runtime: Runtime, id: string): Promise<ContainerState | undefined> {
  for await (const one of runtime.list()) if (one.id === id) return one.state;
  return undefined;
}

/** Asserts that the promise rejects with a PluginError of that code. */
export async function rejectsWith(t: Test, code: PluginError['code'], promise: Promise<unknown>): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  t.ok(error instanceof PluginError, `a PluginError, not ${String(error)}`);
  if (error instanceof PluginError) t.equal(error.code, code, error.message);
}

function newVolume(sources: readonly Source[]): Source {
  const volume = sources.find((source) => source.origin === 'new');
  if (volume === undefined) throw new Error('the container has no new-folder volume');
  return volume;
}

async function firstFile(volume: Source): Promise<string> {
  for (const entry of await readdir(volume.path, { withFileTypes: true })) if (entry.isFile()) return entry.name;
  throw new Error(`${volume.path} holds no file`);
}

const never = new AbortController().signal;

async function testReading(t: Test, runtime: Runtime, id: string): Promise<void> {
  t.equal(await stateOf(runtime, id), 'running', 'list shows it running');
  const description = await runtime.describe(id);
  t.match(description, { name: id, state: 'running' });
  t.not(description.native.text, '', 'keeps the own configuration of the engine');
  const sources = await runtime.sources(id);
  t.equal(new Set(sources.map(({ name }) => name)).size, sources.length, 'names are unique');
  for (const { name, path } of sources) t.ok(/^[a-zA-Z0-9._-]{1,128}$/.test(name) && path.startsWith('/'), `${name} at ${path}`);
  const roots = sources.filter(({ origin }) => origin === 'engine').map(({ name }) => name);
  t.strictSame(roots, ['rootfs'], 'one root');
  const volumes = sources.filter(({ origin }) => origin !== 'engine').map(({ name }) => name);
  t.strictSame(volumes.sort(), description.volume.map(({ name }) => name).sort(), 'volumes are described');
  t.equal((await runtime.image(id)) !== undefined, runtime.supports.images, 'image as supported');
  for (const missing of ['conformance-absent', '-P', '../x']) {
    const codes = await Promise.all(
      [runtime.describe(missing), runtime.sources(missing)].map((promise) =>
        promise.then(
          () => 'resolved',
          (error: unknown) => (error instanceof PluginError ? error.code : 'foreign error'),
        ),
      ),
    );
    t.ok(
      codes.every((code) => code === 'not_found' || code === 'invalid'),
      `${missing}: ${codes.join()}`,
    );
  }
}

async function testPause(t: Test, runtime: Runtime, id: string): Promise<void> {
  if (!runtime.supports.pause) return;
  {
    await using _pause = await runtime.pause(id);
    t.equal(await stateOf(runtime, id), 'frozen', 'paused');
  }
  t.equal(await stateOf(runtime, id), 'running', 'disposing resumes');
  await runtime.pause(id);
  await runtime.resume(id);
  await runtime.resume(id);
  t.equal(await stateOf(runtime, id), 'running', 'resume may be called twice');
}

async function testClone(t: Test, runtime: Runtime, saved: Saved, clone: string): Promise<void> {
  const plan = planOf(saved, clone, 'create');
  const foretold = await runtime.preview(plan, { shares: [] });
  const draft = await runtime.draft(plan, { signal: never });
  t.equal(draft.needsImage, false, 'the image is there');
  await fill(draft, saved);
  t.equal(await stateOf(runtime, clone), undefined, 'nothing is visible before commit');
  const { conflicts, places, warnings } = await draft.commit();
  testPlaces(t, plan, { places, warnings }, foretold);
  t.equal(await stateOf(runtime, clone), conflicts.length === 0 ? 'running' : 'stopped', 'state as backed up');
  const original = newVolume(saved.sources);
  const copy = newVolume(await runtime.sources(clone));
  t.not(copy.path, original.path, 'the volume is a copy');
  const file = await firstFile(original);
  t.strictSame(await readFile(join(copy.path, file)), await readFile(join(original.path, file)), 'with the same file');
  await rejectsWith(t, 'exists', creating(runtime, planOf(saved, clone, 'create')));
}

/** Asserts that an engine does what a remap asks for, or refuses it. */
async function testRemap(t: Test, runtime: Runtime, saved: Saved, clone: string): Promise<void> {
  const unknown: readonly NonNullable<RestorePlan['remap']>[] = [
    { volumes: { 'no-such-volume': '/var/tmp/no-such-place' } },
    { network: { 'no-such-network': { to: 'other' } } },
    { ports: { '65000': 65001 } },
  ];
  for (const remap of unknown) {
    const plan = { ...planOf(saved, clone, 'create'), remap };
    for (const ask of [creating(runtime, plan), conflictsOf(runtime, plan)]) {
      const code = await ask.then(
        () => 'done',
        (error: unknown) => (error instanceof PluginError ? error.code : String(error)),
      );
      t.ok(['invalid', 'unsupported'].includes(code), `${JSON.stringify(remap)}: ${code}`);
    }
  }
  t.equal(await stateOf(runtime, clone), undefined, 'and nothing is made');
}

/** Asserts that draft() or commit() refuses. Discards a draft that was made. */
async function creating(runtime: Runtime, plan: RestorePlan): Promise<void> {
  const draft = await runtime.draft(plan, { signal: never });
  try {
    await draft.folders();
    await draft.commit();
  } finally {
    await draft.discard();
  }
}

async function testReplace(t: Test, runtime: Runtime, saved: Saved, id: string): Promise<void> {
  const volume = newVolume(await runtime.sources(id));
  const file = await firstFile(volume);
  const content = await readFile(join(volume.path, file));
  await writeFile(join(volume.path, file), 'changed after the backup');
  await writeFile(join(volume.path, 'made-after-the-backup'), '');
  const plan = planOf(saved, id, 'replace');
  const foretold = await runtime.preview(plan, { shares: [] });
  const draft = await runtime.draft(plan, { signal: never });
  await fill(draft, saved);
  t.ok((await readdir(volume.path)).includes('made-after-the-backup'), 'the old one is untouched before commit');
  const { places, warnings } = await draft.commit();
  testPlaces(t, plan, { places, warnings }, foretold);
  await draft.discard();
  const restored = newVolume(await runtime.sources(id));
  t.strictSame(await readFile(join(restored.path, file)), content, 'content is back');
  t.notOk((await readdir(restored.path)).includes('made-after-the-backup'), 'what came later is gone');
  t.equal(await stateOf(runtime, id), 'running', 'runs again');
}

/** Replaces the container and keeps what was there. @returns the id of the undo */
async function replaceKeeping(t: Test, runtime: Runtime, saved: Saved, id: string, undoUntil: number): Promise<string> {
  const draft = await runtime.draft({ ...planOf(saved, id, 'replace'), undoUntil }, { signal: never });
  await fill(draft, saved);
  const { undo } = await draft.commit();
  await draft.discard(); // does nothing after a commit
  t.type(undo, 'string', 'the commit names what it keeps');
  return undo ?? '';
}

/** Begins a replacement and aborts its commit. */
async function givenUp(runtime: Runtime, saved: Saved, id: string): Promise<void> {
  const stop = new AbortController();
  const draft = await runtime.draft({ ...planOf(saved, id, 'replace'), undoUntil: Date.now() + 3_600_000 }, { signal: stop.signal });
  await fill(draft, saved);
  stop.abort();
  await draft.commit().catch(() => undefined);
  await draft.discard();
}

async function testUndo(t: Test, runtime: Runtime, saved: Saved, id: string): Promise<void> {
  const hour = 3_600_000;
  const names = async () => (await readdir(newVolume(await runtime.sources(id)).path)).filter((name) => name.startsWith('before-'));
  await writeFile(join(newVolume(await runtime.sources(id)).path, 'before-undo'), '');
  const first = await replaceKeeping(t, runtime, saved, id, Date.now() + hour);
  t.strictSame(await names(), [], 'replaced');
  await runtime.recover();
  await runtime.undo(first);
  t.strictSame(await names(), ['before-undo'], 'brought back, and recover had left it alone');
  t.equal(await stateOf(runtime, id), 'running', 'in its former state');
  await rejectsWith(t, 'not_found', runtime.undo(first));
  const second = await replaceKeeping(t, runtime, saved, id, Date.now() + hour);
  await givenUp(runtime, saved, id);
  await runtime.undo(second);
  t.strictSame(await names(), ['before-undo'], 'a later replacement that comes to nothing does not cost the undo');
  const again = await replaceKeeping(t, runtime, saved, id, Date.now() + hour);
  const third = await replaceKeeping(t, runtime, saved, id, Date.now() + hour);
  await rejectsWith(t, 'not_found', runtime.undo(again));
  await runtime.dropUndo(third);
  await runtime.dropUndo(third);
  await rejectsWith(t, 'not_found', runtime.undo(third));
  const fourth = await replaceKeeping(t, runtime, saved, id, Date.now() - 1);
  await rejectsWith(t, 'not_found', runtime.undo(fourth));
  await runtime.recover();
  await rejectsWith(t, 'not_found', runtime.undo('../nonsense'));
  t.equal(await stateOf(runtime, id), 'running', 'runs after all that');
}

async function testDiscard(t: Test, runtime: Runtime, saved: Saved, clone: string): Promise<void> {
  const draft = await runtime.draft(planOf(saved, clone, 'create'), { signal: never });
  const folders = [...(await draft.folders()).values()];
  await fill(draft, saved);
  await draft.discard();
  await draft.discard();
  t.equal(await stateOf(runtime, clone), undefined, 'no container');
  for (const folder of folders) await t.rejects(readdir(folder), { code: 'ENOENT' }, `${folder} is gone`);
  await runtime.recover();
  t.equal(await stateOf(runtime, saved.description.name), 'running', 'recover leaves others alone');
}

/** Registers the tests that every runtime plugin must pass. */
export function runtimeConformance(o: RuntimeConformance): void {
  test(`${o.name}: the runtime passes the conformance suite`, async (t) => {
    const id = `conf-${process.pid}`;
    const clone = `${id}-clone`;
    t.teardown(async () => {
      await o.removeContainer(clone);
      await o.removeContainer(id);
    });
    await o.makeContainer(id);
    await using runtime = await o.open();
    await t.test('list, describe and sources show a container', (t) => testReading(t, runtime, id));
    await t.test('pause freezes a container, and dispose and resume thaw it', (t) => testPause(t, runtime, id));
    const saved = await save(t, runtime, id);
    await t.test('discard leaves nothing of a draft', (t) => testDiscard(t, runtime, saved, clone));
    await t.test('preview lists the rights that a container asks for', (t) => testGrants(t, runtime, planOf(saved, clone, 'create')));
    await t.test('an unknown remap is refused', (t) => testRemap(t, runtime, saved, clone));
    await t.test('a draft creates a clone on commit', (t) => testClone(t, runtime, saved, clone));
    await t.test('a draft replaces a container on commit', (t) => testReplace(t, runtime, saved, id));
    await t.test('an undo brings back what a replace kept', (t) => testUndo(t, runtime, saved, id));
  });
}
