// Keeps a set of processes alive and ends them in order. It knows nothing of what they do.
import { type ChildEvent, type ChildSpec, type ReadyMessage, SupervisedChild } from './child.ts';

export interface SupervisorOptions {
  readonly onEvent?: (child: string, event: ChildEvent) => void;
}

export class Supervisor {
  readonly #children: SupervisedChild[] = [];
  readonly #onEvent: (child: string, event: ChildEvent) => void;
  #stopping: Promise<void> | null = null;

  constructor({ onEvent = () => {} }: SupervisorOptions = {}) {
    this.#onEvent = onEvent;
  }

  /** Name and process id of each child that runs now, in the order of their start. */
  get children(): readonly { readonly name: string; readonly pid: number | null }[] {
    return this.#children.map((child) => ({ name: child.spec.name, pid: child.pid }));
  }

  /**
   * Starts a child and waits until it is ready; from then on it is restarted when it dies.
   *
   * @throws {@link EngineError} when it ends before it was ready.
   */
  start(spec: ChildSpec): Promise<ReadyMessage> {
    const child = new SupervisedChild(spec, (event) => this.#onEvent(spec.name, event));
    this.#children.push(child);
    return child.start();
  }

  /**
   * Ends all children, one group after the other. First all are told `ending`, so that nobody starts anything new.
   *
   * @param order - names or beginnings of names; children that no entry names end last, together.
   */
  stop(order: readonly string[]): Promise<void> {
    this.#stopping ??= this.#stopInOrder(order);
    return this.#stopping;
  }

  async #stopInOrder(order: readonly string[]): Promise<void> {
    for (const child of this.#children) child.tell({ kind: 'ending' });
    const left = new Set(this.#children);
    for (const start of [...order, '']) {
      const group = [...left].filter((child) => child.spec.name.startsWith(start));
      for (const child of group) left.delete(child);
      await Promise.all(group.map((child) => child.stop()));
    }
  }

  /** Ends everything at once; for a second Ctrl-C. */
  kill(): void {
    for (const child of this.#children) child.kill();
  }
}
