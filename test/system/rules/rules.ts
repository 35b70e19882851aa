/** Rules by their title. The suite runs them in this order on one appliance. */
import type { Test } from 'tap';
import type { Answer, Body } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { backupBody } from '../bed/request-bodies.js';
import type { Curl } from './curl.js';

export interface RulesBed {
  readonly a: Appliance;
  readonly curl: Curl;
  /** A file of the container `utest` that makes its runs last; `small` and `other` have no such file. */
  readonly large: string;
  ask(method: string, path: string, body?: Body): Promise<Answer>;
  /** Makes a backup job from a good body with changes. @returns the answer */
  make(more?: Body): Promise<unknown>;
  /** As above. @returns the id */
  create(more?: Body): Promise<number>;
  /** Deletes a backup job. */
  drop(id: number, query?: string): Promise<unknown>;
}

export type Rules = Readonly<Record<string, (t: Test, bed: RulesBed) => Promise<void>>>;

export function bedOf(a: Appliance, curl: Curl, large: string): RulesBed {
  return {
    a,
    curl,
    large,
    ask: (method, path, body) => a.service.ask(method, path, body),
    make: (more) => a.service.call('POST', '/backup', backupBody(more)),
    create: (more) => a.service.create('backup', backupBody(more)),
    drop: (id, query = '') => a.service.call('DELETE', `/backup/${id}${query}`),
  };
}
