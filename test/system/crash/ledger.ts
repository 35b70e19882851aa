/** A client that creates and deletes while the service is killed. It notes each acknowledged request. */
import { isDeepStrictEqual } from 'node:util';
import { type Body, isBody, notSoon } from '../../support/api-client.js';
import type { DemoService } from '../../support/demo-client.js';

type Kind = 'backup' | 'target';

/** So many stay. Older ones are deleted, so that the checks cover acknowledged deletions, too. */
const most = 10;

/** The part of an answer that does not change with time. */
function lasting({ state: _, ...spec }: Body): Body {
  return spec;
}

export class Ledger {
  readonly #kept: Readonly<Record<Kind, Map<number, Body>>> = { backup: new Map(), target: new Map() };
  /** The suite's own rows, which are never deleted. */
  readonly #own: Readonly<Record<Kind, Map<number, Body>>> = { backup: new Map(), target: new Map() };
  readonly #gone: Readonly<Record<Kind, Set<number>>> = { backup: new Set(), target: new Set() };
  #count = 0;
  acknowledged = 0;
  deletions = 0;

  constructor(private readonly container: string) {}

  #body(kind: Kind): Body {
    const name = `ledger-${++this.#count}`;
    if (kind === 'target') return { name, ipaddr: '192.0.2.1', username: 'someone', password: 'secret', desc: name, base: '/base' };
    const dest = { target: 'local', path: '/test/ledger' };
    return { job_name: name, container_id: this.container, type: 'lxc', dest, at: notSoon(), disable: true };
  }

  /** Writes until the service stops answering or `end` is called. */
  write(service: DemoService): { readonly end: () => Promise<void> } {
    let ending = false;
    const go = async () => {
      while (!ending) {
        for (const kind of ['backup', 'target'] as const) await this.#one(service, kind);
      }
    };
    const gone = go().catch(() => undefined); // the connection broke: a request without an answer may or may not have worked
    return {
      end: async () => {
        ending = true;
        await gone;
      },
    };
  }

  async #one(service: DemoService, kind: Kind): Promise<void> {
    const answer = await service.ask('POST', `/${kind}/`, this.#body(kind));
    if (answer.status !== 200 || !isBody(answer.json)) throw new Error(`POST /${kind}/ answered ${answer.status} ${answer.text}`);
    this.#kept[kind].set(Number(answer.json.id), lasting(answer.json));
    this.acknowledged++;
    const [oldest] = this.#kept[kind].keys();
    if (oldest === undefined || this.#kept[kind].size <= most) return;
    this.#kept[kind].delete(oldest); // until the answer comes, both are right: it exists or it does not
    const { status } = await service.ask('DELETE', `/${kind}/${oldest}`);
    if (status !== 200) throw new Error(`DELETE /${kind}/${oldest} answered ${status}`);
    this.#gone[kind].add(oldest);
    this.deletions++;
  }

  /** One line for each acknowledged request that the service does not show. */
  async problems(service: DemoService): Promise<string[]> {
    const found: string[] = [];
    for (const kind of ['backup', 'target'] as const) {
      const list = await service.call('GET', `/${kind}/`);
      const there = new Map((Array.isArray(list) ? list : []).filter(isBody).map((one) => [Number(one.id), lasting(one)]));
      for (const [id, body] of [...this.#own[kind], ...this.#kept[kind]]) {
        const now = there.get(id);
        if (now === undefined) found.push(`${kind} ${id} was acknowledged and is not there`);
        else if (!isDeepStrictEqual(now, body)) found.push(`${kind} ${id} was ${JSON.stringify(body)}, is ${JSON.stringify(now)}`);
      }
      for (const id of this.#gone[kind]) if (there.has(id)) found.push(`${kind} ${id} was deleted and is there again`);
    }
    return found;
  }

  /** Notes another acknowledged row, such as one of the suite's own jobs. */
  keep(kind: Kind, answer: unknown): void {
    if (isBody(answer)) this.#own[kind].set(Number(answer.id), lasting(answer));
  }
}
