import type { Readable } from 'node:stream';
import { type Image, PluginError } from '../../../core/contract/index.js';
import type { Client } from './client.js';
import { engine, orAbsent } from './engine.js';
import { fields, items, text, texts } from './narrow.js';

/** The image as `docker save` gives it, with its tags: by id alone they would be lost. */
export async function savedImage(client: Client, id: string): Promise<Image> {
  const tags = texts(fields(await client.json('GET', `/images/${encodeURIComponent(id)}/json`)).RepoTags);
  const query = [...tags, id].map((name) => `names=${encodeURIComponent(name)}`).join('&');
  return { digest: id, open: (signal) => client.stream('GET', `/images/get?${query}`, { signal, silence: 0 }) };
}

/** What engines list as the tag of an image that has none. */
const noTag = '<none>:<none>';

async function tagOwners(client: Client): Promise<ReadonlyMap<string, string>> {
  const images = items(await client.json('GET', '/images/json')).map(fields);
  const pairs = images.flatMap((image) => texts(image.RepoTags).map((tag) => [tag, text(image.Id)] as const));
  return new Map(pairs.filter(([tag]) => tag !== noTag));
}

async function tagImage(client: Client, id: string, tag: string): Promise<void> {
  const colon = tag.lastIndexOf(':');
  const cut = colon > tag.lastIndexOf('/') ? colon : tag.length; // a registry's port is no tag
  const query = `repo=${encodeURIComponent(tag.slice(0, cut))}&tag=${encodeURIComponent(tag.slice(cut + 1) || 'latest')}`;
  await client.json('POST', `/images/${encodeURIComponent(id)}/tag?${query}`);
}

/** Loads the image and tells which tags came with it. A tag that another image holds goes back to it:
 *  a restored old version must not become `latest` for everybody.
 *  @throws PluginError damaged when the stream does not hold the image */
export async function loadImage(client: Client, digest: string, source: Readable, signal: AbortSignal): Promise<readonly string[]> {
  const before = await tagOwners(client);
  const said = await client.text('POST', '/images/load?quiet=1', { source, signal, silence: 0 });
  for (const [tag, id] of await tagOwners(client)) {
    const owner = before.get(tag);
    if (owner !== undefined && owner !== id) await tagImage(client, owner, tag);
  }
  const failure = /"error":"((?:[^"\\]|\\.)*)"/.exec(said)?.[1]; // the status is 200 even then
  if (failure !== undefined) throw new PluginError('failed', `Docker could not load the image: ${failure}`);
  if ((await engine.imageId(client, digest)) === undefined) {
    throw new PluginError('damaged', `The loaded stream does not hold the image ${digest}`);
  }
  return [...(await tagOwners(client))].filter(([tag]) => !before.has(tag)).map(([tag]) => tag);
}

/** How to name the image when creating: by its tag where that is the same image, so that inspect shows it. A missing tag is set. */
export async function imageReference(client: Client, digest: string, wanted: string): Promise<{ reference: string; tagged: boolean }> {
  const isTag = wanted !== '' && !wanted.startsWith('sha256:') && !wanted.includes('@') && !digest.includes(wanted);
  if (!isTag) return { reference: digest, tagged: false };
  const owner = await engine.imageId(client, wanted);
  if (owner !== undefined) return { reference: owner === digest ? wanted : digest, tagged: false };
  await tagImage(client, digest, wanted);
  return { reference: wanted, tagged: true };
}

/** Takes back what loadImage brought; an image that is used by now stays. */
export async function unloadImage(client: Client, digest: string, tags: readonly string[]): Promise<void> {
  for (const reference of [...tags, digest]) {
    if (reference === '') continue;
    await orAbsent(client.json('DELETE', `/images/${encodeURIComponent(reference)}`)).catch((error: unknown) => {
      if (!(error instanceof PluginError && error.code === 'conflict')) throw error;
    });
  }
}
