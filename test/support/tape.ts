// Scalar reverse-mode differentiation: the oracle states a loss, and its derivative follows from here and nowhere else.

export class Var {
  readonly index: number;
  /**
   * `size`: what the terms of the value come to before they cancel. `slopes`: derivatives by the inputs, and `weights` the same with
   * sizes in place of values.
   */
  constructor(
    private readonly tape: Tape,
    readonly value: number,
    readonly size: number = Math.abs(value),
    readonly inputs: readonly Var[] = [],
    readonly slopes: readonly number[] = [],
    readonly weights: readonly number[] = slopes,
  ) {
    this.index = tape.nodes.push(this) - 1;
  }
  private of(value: number, slope: number, size = Math.abs(value)): Var {
    return new Var(this.tape, value, size, [this], [slope]);
  }
  plus(other: Var | number): Var {
    if (typeof other === 'number') return this.of(this.value + other, 1, this.size + Math.abs(other));
    return new Var(this.tape, this.value + other.value, this.size + other.size, [this, other], [1, 1]);
  }
  minus(other: Var | number): Var {
    return this.plus(typeof other === 'number' ? -other : other.times(-1));
  }
  times(other: Var | number): Var {
    if (typeof other === 'number') return this.of(this.value * other, other, this.size * Math.abs(other));
    const slopes = [other.value, this.value];
    return new Var(this.tape, this.value * other.value, this.size * other.size, [this, other], slopes, [other.size, this.size]);
  }
  exp(): Var {
    const e = Math.exp(this.value);
    return this.of(e, e);
  }
  /** exp - 1, whose terms these two are. */
  expm1(): Var {
    const e = Math.exp(this.value);
    return this.of(Math.expm1(this.value), e, e + 1);
  }
  abs(): Var {
    return this.of(Math.abs(this.value), Math.sign(this.value), this.size);
  }
  sigmoid(): Var {
    const s = 1 / (1 + Math.exp(-this.value));
    return this.of(s, 1 / (2 + Math.exp(this.value) + Math.exp(-this.value))); // s (1 - s) would cancel near s = 1
  }
  /** The bound itself still counts as inside, as torch.clamp has it. */
  atMost(bound: number): Var {
    return this.value <= bound ? this.of(this.value, 1, this.size) : this.of(bound, 0);
  }
  atLeast(bound: number): Var {
    return this.value >= bound ? this.of(this.value, 1, this.size) : this.of(bound, 0);
  }
}

export class Tape {
  readonly nodes: Var[] = [];
  leaf(value: number): Var {
    return new Var(this, value);
  }
  sum(terms: readonly Var[]): Var {
    const total = (of: (v: Var) => number) => terms.reduce((s, v) => s + of(v), 0);
    const ones = terms.map(() => 1);
    return new Var(
      this,
      total((v) => v.value),
      total((v) => v.size),
      terms,
      ones,
    );
  }
  /**
   * `slope`: d(root) / d(node). `amount`: the same with every path counted positive and values by their size, which is what the terms of
   * the derivative come to before they cancel.
   */
  backward(root: Var): { slope: Float64Array; amount: Float64Array } {
    const slope = new Float64Array(root.index + 1);
    const amount = new Float64Array(root.index + 1);
    slope[root.index] = amount[root.index] = 1;
    for (let i = root.index; i >= 0; --i) {
      if (amount[i] === 0) continue;
      const { inputs, slopes, weights } = this.nodes[i]!;
      inputs.forEach((input, k) => {
        slope[input.index]! += slope[i]! * slopes[k]!;
        amount[input.index]! += amount[i]! * Math.abs(weights[k]!);
      });
    }
    return { slope, amount };
  }
}

/** The smaller one; the first where they are equal. */
export const smaller = (a: Var, b: Var): Var => (b.value < a.value ? b : a);
