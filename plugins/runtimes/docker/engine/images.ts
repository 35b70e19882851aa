import type { Readable } from 'node:stream';
import { type Image, PluginError } from '../../../../core/contract/index.js';
import { orAbsent } from '../../../shared/presence.js';
import type { Journal, SwapDeps } from '../restore/journal.js';
import type { Client } from './client.js';
import { engine } from './engine.js';
import { withEngineLock } from './engine-lock.js';
import { fields, items, text, texts } from './json.js';

/** The image as `docker save` writes it. Its tags are asked for too: a save by id alone would drop them. */
export async function saveImage(client: Client, id: string): Promise<Image> {
  const tags = texts(fields(await client.json('GET', `/images/${encodeURIComponent(id)}/json`)).RepoTags);
  const query = [...tags, id].map((name) => `names=${encodeURIComponent(name)}`).join('&');
  return { digest: id, open: (signal) => client.stream('GET', `/images/get?${query}`, { signal, silence: 0 }) };
}

/** How engines list an image without a tag. */
const noTag = '<none>:<none>';

async function tagOwners(client: Client): Promise<ReadonlyMap<string, string>> {
  const images = items(await client.json('GET', '/images/json')).map(fields);
  const pairs = images.flatMap((image) => texts(image.RepoTags).map((tag) => [tag, text(image.Id)] as const));
  return new Map(pairs.filter(([tag]) => tag !== noTag));
}

async function tagImage(client: Client, id: string, tag: string): Promise<void> {
  const colon = tag.lastIndexOf(':');
  const cut = colon > tag.lastIndexOf('/') ? colon : tag.length; // a colon before the last slash is a registry's port
  const query = `repo=${encodeURIComponent(tag.slice(0, cut))}&tag=${encodeURIComponent(tag.slice(cut + 1) || 'latest')}`;
  await client.json('POST', `/images/${encodeURIComponent(id)}/tag?${query}`);
}

/** Loads the image. A tag that another image had before goes back to that image: a restored old version must not become `latest`.
 *  @returns the tags that are new
 *  @throws PluginError damaged when the stream does not hold the image */
async function loadImage(client: Client, digest: string, source: Readable, signal: AbortSignal): Promise<readonly string[]> {
  const before = await tagOwners(client);
  const said = await client.text('POST', '/images/load?quiet=1', { source, signal, silence: 0 });
  for (const [tag, id] of await tagOwners(client)) {
    const owner = before.get(tag);
    if (owner !== undefined && owner !== id) await tagImage(client, owner, tag);
  }
  const failure = /"error":"((?:[^"\\]|\\.)*)"/.exec(said)?.[1]; // the engine answers 200 even when loading failed
  if (failure !== undefined) throw new PluginError('failed', `Docker could not load the image: ${failure}`);
  if ((await engine.imageId(client, digest)) === undefined) {
    throw new PluginError('damaged', `The loaded stream does not hold the image ${digest}`);
  }
  return [...(await tagOwners(client))].filter(([tag]) => !before.has(tag)).map(([tag]) => tag);
}

const drafts = async ({ journals }: SwapDeps, own: Journal) => (await journals.others(own)).filter(({ phase }) => phase !== 'done');

/** Notes the image and its tags in this journal too if another draft loaded them: the draft discarded last removes them. */
async function shareImage(deps: SwapDeps, journal: Journal, digest: string): Promise<void> {
  const bringing = (await drafts(deps, journal)).filter(({ image }) => image === digest);
  if (bringing.length === 0) return;
  journal.image = digest;
  journal.tags = [...new Set([...journal.tags, ...bringing.flatMap(({ tags }) => tags)])];
  await deps.journals.write(journal);
}

/** Whether the engine has the image. Waits for another draft that is loading it. */
export function hasImage(deps: SwapDeps, journal: Journal, digest: string, signal: AbortSignal): Promise<boolean> {
  const { client, stateFolder } = deps;
  return withEngineLock(stateFolder, 'images', signal, async () => {
    if ((await engine.imageId(client, digest)) === undefined) return false;
    await shareImage(deps, journal, digest);
    return true;
  });
}

/** Loads the image; the journal names it before it exists. @throws PluginError damaged, failed */
export function bringImage(deps: SwapDeps, journal: Journal, digest: string, source: Readable, signal: AbortSignal): Promise<void> {
  const { client, stateFolder, journals } = deps;
  return withEngineLock(stateFolder, 'images', signal, async () => {
    if ((await engine.imageId(client, digest)) === undefined) journal.image = digest;
    await journals.write(journal);
    journal.tags.push(...(await loadImage(client, digest, source, signal)));
    await journals.write(journal);
    await shareImage(deps, journal, digest);
  });
}

/** Calls `create` with the image's name: its tag if the tag names this image or is free (then it is set), so that inspect shows
 *  the tag; else its digest. The lock keeps other drafts from moving the tag meanwhile. */
export function withImageName<T>(
  deps: SwapDeps,
  journal: Journal,
  { digest, wanted, signal }: { readonly digest: string; readonly wanted: string; readonly signal: AbortSignal },
  create: (reference: string) => Promise<T>,
): Promise<T> {
  const { client, stateFolder, journals } = deps;
  return withEngineLock(stateFolder, 'images', signal, async () => {
    const isTag = wanted !== '' && !wanted.startsWith('sha256:') && !wanted.includes('@') && !digest.includes(wanted);
    const owner = isTag ? await engine.imageId(client, wanted) : undefined;
    if (!isTag || (owner !== undefined && owner !== digest)) return create(digest);
    if (owner === undefined || (await drafts(deps, journal)).some(({ tags }) => tags.includes(wanted))) {
      journal.tags.push(wanted);
      await journals.write(journal);
    }
    if (owner === undefined) await tagImage(client, digest, wanted);
    return create(wanted);
  });
}

/** Removes the image and tags that a draft loaded, unless another draft or a container uses them. */
export async function releaseImage({ client, stateFolder, journals }: SwapDeps, journal: Journal): Promise<void> {
  if (journal.image === '' && journal.tags.length === 0) return;
  await withEngineLock(stateFolder, 'images', undefined, async () => {
    const others = await journals.others(journal);
    const rows = await engine.containers(client);
    const stays = others.some(({ image }) => image === journal.image) || rows.some(({ ImageID }) => ImageID === journal.image);
    const used = new Set([...others.flatMap(({ tags }) => tags), ...rows.map(({ Image }) => text(Image))]);
    const brought = journal.image === '' || !stays ? [...journal.tags.filter((tag) => !used.has(tag)), journal.image] : [];
    for (const reference of brought.filter(Boolean)) await removeImage(client, reference);
    journal.image = '';
    journal.tags = [];
    await journals.write(journal);
  });
}

async function removeImage(client: Client, reference: string): Promise<void> {
  await orAbsent(client.json('DELETE', `/images/${encodeURIComponent(reference)}`)).catch((error: unknown) => {
    if (!(error instanceof PluginError && error.code === 'conflict')) throw error; // conflict: a container uses it
  });
}
