#include "model.h"

#include <Eigen/Core>
#include <cmath>

namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Row = Eigen::Matrix<float, 1, Eigen::Dynamic>;
// The trainer's tensors stand on 64-byte boundaries, so the same instructions run on them everywhere.
using ConstMatrixMap = Eigen::Map<const Matrix, Eigen::Aligned64>;
using ConstRowMap = Eigen::Map<const Row, Eigen::Aligned64>;
using MatrixMap = Eigen::Map<Matrix, Eigen::Aligned64>;
using RowMap = Eigen::Map<Row, Eigen::Aligned64>;

// In the order of registration, which is the order of use.
enum Parameter { kEmbedding, kWeight1, kBias1, kWeight2, kBias2, kWeight3, kBias3 };

}  // namespace

struct Model::Activations {
  Matrix input;     // positions x (context * embed)
  Matrix hidden1;   // positions x hidden
  Matrix hidden2;   // positions x hidden
  Matrix output;    // positions x symbols: probabilities, later their gradient
  Matrix gradient;  // of a layer's input
};

Model::Model(const ModelShape& shape) : shape_(shape), at_(std::make_unique<Activations>()) {}

Model::~Model() = default;

std::vector<muster::ParameterSpec> Model::Parameters() const {
  const int64_t symbols = shape_.symbols, embed = shape_.embed, hidden = shape_.hidden;
  const int64_t inputs = shape_.context * embed;
  const auto range = [](int64_t fan_in) { return std::sqrt(3.0f / static_cast<float>(fan_in)); };  // variance 1/fan_in
  return {{"embedding", {symbols, embed}, 1.0f},
          {"weight1", {inputs, hidden}, range(inputs)},
          {"bias1", {hidden}},
          {"weight2", {hidden, hidden}, range(hidden)},
          {"bias2", {hidden}},
          {"weight3", {hidden, symbols}, 0.5f * range(hidden)},
          {"bias3", {symbols}}};
}

muster::Loss Model::Forward(const Values& values) {
  const auto positions = static_cast<Eigen::Index>(positions_.targets.size());
  const ConstMatrixMap embedding(values[kEmbedding].data(), shape_.symbols, shape_.embed);
  at_->input.resize(positions, shape_.context * shape_.embed);
  for (Eigen::Index i = 0; i < positions; ++i) {
    for (int slot = 0; slot < shape_.context; ++slot) {
      at_->input.row(i).segment(slot * shape_.embed, shape_.embed) =
          embedding.row(positions_.contexts[i * shape_.context + slot]);
    }
  }
  const auto layer = [&](const Matrix& input, int weight, int units, Matrix& output) {
    output.noalias() = input * ConstMatrixMap(values[weight].data(), input.cols(), units);
    output.rowwise() += ConstRowMap(values[weight + 1].data(), units);
  };
  layer(at_->input, kWeight1, shape_.hidden, at_->hidden1);
  at_->hidden1 = at_->hidden1.array().tanh();
  layer(at_->hidden1, kWeight2, shape_.hidden, at_->hidden2);
  at_->hidden2 = at_->hidden2.array().tanh();
  layer(at_->hidden2, kWeight3, shape_.symbols, at_->output);

  muster::Loss loss{0, positions};
  for (Eigen::Index i = 0; i < positions; ++i) {
    auto row = at_->output.row(i).array();
    const float largest = row.maxCoeff();
    const float chosen = row(positions_.targets[i]) - largest;
    row = (row - largest).exp();
    const float total = row.sum();
    row /= total;
    loss.sum += std::log(static_cast<double>(total)) - static_cast<double>(chosen);
  }
  return loss;
}

void Model::Backward(const Values& values, muster::Pass& pass) {
  const auto positions = static_cast<Eigen::Index>(positions_.targets.size());
  for (Eigen::Index i = 0; i < positions; ++i) at_->output(i, positions_.targets[i]) -= 1.0f;
  // Gradients of a layer's bias and weight, marked as they become ready, and of its input.
  const auto layer = [&](const Matrix& input, int weight, const Matrix& output) {
    RowMap(pass.gradient(weight + 1).data(), output.cols()) += output.colwise().sum();
    pass.GradientReady(weight + 1);
    MatrixMap(pass.gradient(weight).data(), input.cols(), output.cols()).noalias() += input.transpose() * output;
    pass.GradientReady(weight);
    at_->gradient.noalias() = output * ConstMatrixMap(values[weight].data(), input.cols(), output.cols()).transpose();
  };
  layer(at_->hidden2, kWeight3, at_->output);
  at_->hidden2 = at_->gradient.array() * (1.0f - at_->hidden2.array().square());
  layer(at_->hidden1, kWeight2, at_->hidden2);
  at_->hidden1 = at_->gradient.array() * (1.0f - at_->hidden1.array().square());
  layer(at_->input, kWeight1, at_->hidden1);
  MatrixMap embedding(pass.gradient(kEmbedding).data(), shape_.symbols, shape_.embed);
  for (Eigen::Index i = 0; i < positions; ++i) {
    for (int slot = 0; slot < shape_.context; ++slot) {
      embedding.row(positions_.contexts[i * shape_.context + slot]) +=
          at_->gradient.row(i).segment(slot * shape_.embed, shape_.embed);
    }
  }
  pass.GradientReady(kEmbedding);
}

muster::Loss Model::Train(muster::Pass& pass, std::span<const Word* const> words) {
  Values values;
  for (int i = kEmbedding; i <= kBias3; ++i) values.push_back(pass.value(i));
  const muster::Loss loss = Evaluate(values, words);
  pass.BackwardBegins();
  Backward(values, pass);
  return loss;
}

muster::Loss Model::Evaluate(const Values& values, std::span<const Word* const> words) {
  positions_ = Positions::Of(words, shape_.context);
  return Forward(values);
}

std::vector<float> Model::Next(const Values& values, const Word& prefix) {
  positions_ = Positions();
  positions_.Add(prefix, prefix.size(), 0, shape_.context);
  Forward(values);
  return {at_->output.data(), at_->output.data() + shape_.symbols};
}
