/** A folder that `dynamic-exit run` wrote, in onnxruntime-web: the same module for browsers and for Node. */
export class DynamicExitModel {
  /**
   * @param ort the module `onnxruntime-web`
   * @param read from a file's name to a promise of its bytes, an ArrayBuffer or Uint8Array
   */
  static async load(ort, read) {
    const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
    const [config, points] = await Promise.all([json("config.json"), json("operating_points.json")]);
    if (config.layout !== "single" || config.target !== "onnxruntime") {
      throw new Error(`the folder is for ${config.target} in the layout ${config.layout}; write it with \`layout: single\` for onnxruntime`);
    }
    const session = await ort.InferenceSession.create(new Uint8Array(await read(config.files.model)), {
      logSeverityLevel: 3, // `thresholds` is an input with a default, of which onnxruntime warns
    });
    return new DynamicExitModel(ort, session, config, points.points);
  }

  constructor(ort, session, config, points) {
    Object.assign(this, { ort, session, config });
    this.points = [...points, { name: "backbone", stages: [] }];
    this.stages = [...config.chain.stages.map((stage) => stage.name), config.last_stage ?? "final"];
  }

  /** Whether the file offers its thresholds; one that `prepare.py` has not changed runs at its default point alone. */
  get isSwitchable() {
    return this.session.inputNames.includes("thresholds");
  }

  /** Names of the operating points, the default one first. */
  get operatingPoints() {
    const names = this.isSwitchable ? this.points.map((point) => point.name) : [];
    return [this.config.default, ...names.filter((name) => name !== this.config.default)];
  }

  /** One threshold for each stage before the last; Infinity turns a stage off. */
  thresholds(name) {
    if (!this.operatingPoints.includes(name)) {
      throw new Error(`the operating point is '${name}'; it must be one of ${this.operatingPoints.join(", ")}`);
    }
    const point = this.points.find((each) => each.name === name);
    const known = new Map(point.stages.map((each) => [each.stage, each.threshold]));
    return Float32Array.from(this.stages.slice(0, -1), (stage) => known.get(stage) ?? Infinity);
  }

  /**
   * Classify a batch.
   * @param inputs typed arrays by input name, each of `rows` samples
   * @returns an object for each sample: label, stage, confidence and logits
   */
  async classify(inputs, rows, point = this.config.default) {
    const feeds = {};
    for (const { name, dtype, shape } of this.config.inputs) {
      feeds[name] = new this.ort.Tensor(dtype, inputs[name], [rows, ...shape.map((size) => (Number.isInteger(size) ? size : inputs[name].length / rows))]);
    }
    const thresholds = this.thresholds(point);
    if (this.isSwitchable) {
      feeds.thresholds = new this.ort.Tensor("float32", thresholds, [thresholds.length]);
    }
    const { logits, exit_index, confidence } = await this.session.run(feeds);
    const classes = logits.data.length / rows;
    return Array.from({ length: rows }, (_, row) => {
      const scores = logits.data.slice(row * classes, (row + 1) * classes);
      const label = scores.indexOf(Math.max(...scores));
      return {
        label: this.config.id2label[label],
        stage: this.stages[Number(exit_index.data[row])],
        confidence: confidence.data[row],
        logits: Array.from(scores),
      };
    });
  }
}
