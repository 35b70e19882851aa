/** Requests of the memory suites to a service, and the measurement of its memory. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { type Body, isBody, notSoon, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { isCampaign } from '../../support/depth.js';
import type { LocationWish } from '../fidelity/bench.js';
import { MemoryWatch } from './watch.js';

export const limit = 256; // MiB
const isLarge = isCampaign('large');
const inShare: LocationWish = { target: 'local', path: '/test/large' };
/** MiB by which the last quarter may exceed the third when nothing keeps growing. In a run of a few seconds V8's heaps still grow by some
 *  30 MiB. A long run has a strict limit. */
const mostAfter = (thirdQuarter: number): number => (isLarge ? 1.07 * thirdQuarter : thirdQuarter + 32);

/** Installs the plugin as a user would, so that the service finds it. */
export async function installGenerated(a: Appliance): Promise<void> {
  const folder = join(a.stateFolder, 'plugins/generated');
  await mkdir(folder, { recursive: true });
  const about = { id: 'generated', kind: 'runtime', contract: 1, version: '1.0.0', main: 'index.js', title: 'Generated', capabilities: [] };
  const code = `
    import { PluginError } from 'container-backup/contract';
    import { generatedPlugin } from './generated-runtime.js';
    export default generatedPlugin(PluginError);
  `;
  await writeFile(join(folder, 'plugin.json'), JSON.stringify(about));
  await writeFile(join(folder, 'options.schema.json'), JSON.stringify({ type: 'object' }));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  await writeFile(join(folder, 'index.js'), code);
  await copyFile(fileURLToPath(new URL('./generated-runtime.js', import.meta.url)), join(folder, 'generated-runtime.js'));
  await a.restart();
}

export function newJob(
  a: Appliance,
  type: string,
  container: string,
  features: readonly string[],
  { name = container, location = inShare }: { name?: string; location?: LocationWish } = {},
): Promise<number> {
  return a.service.create('backup', {
    job_name: name,
    container_id: container,
    type,
    dest: location,
    at: notSoon(),
    features,
  });
}

/** Runs the work and checks the memory of the service meanwhile. */
export async function measured<T>(t: Test, a: Appliance, what: string, action: () => Promise<T>): Promise<T> {
  using watch = new MemoryWatch(a.service.pid);
  const done = await action();
  const { peak, thirdQuarter, lastQuarter, seconds, samples, parts } = watch.figures();
  const made = Object.entries(parts).map(([name, size]) => `${name} ${size}`);
  t.comment(
    `${what}: peak ${peak} MiB (${made.join(', ')}), third and last quarter ${thirdQuarter} and ${lastQuarter}, ${seconds} s, ${samples} samples`,
  );
  t.ok(samples > 10, `${what}: looked at often enough`);
  t.ok(peak <= limit, `${what}: ${peak} MiB at most`);
  t.ok(lastQuarter <= mostAfter(thirdQuarter), `${what}: flat, ${thirdQuarter} and then ${lastQuarter}`);
  return done;
}

const limitMs = 900_000;

export async function backUp(a: Appliance, id: number): Promise<Body> {
  await a.service.call('PUT', `/backup/${id}/run`);
  return a.service.ended('backup', id, limitMs);
}

/** Bytes before compression of a source's archives in a run. */
export async function bytesOf(a: Appliance, id: number, run: unknown, source: string): Promise<number> {
  const archives = part(await a.service.call('GET', `/backup/${id}/runs/${run}`), 'archives');
  const all = Array.isArray(archives) ? archives.filter(isBody) : [];
  return all.filter((archive) => archive.source === source).reduce((sum, { bytes }) => sum + Number(bytes), 0);
}

export async function restoreGenerated(a: Appliance, container: string, location = inShare): Promise<Body> {
  const src = { ...location, portfolio: container };
  const id = await a.service.create('restore', { job_name: 'back', container_id: 'restored', type: 'generated', src });
  return a.service.ended('restore', id, limitMs);
}
