"""What a diagnosis may say of each fault: the ids of `harness.diagnose` that tell it rightly, best first.

A key is a fault's name, or that of the mutation which it is an instance of. A fault that is not named is not asked about:
no id tells it. Where several are accepted, each is true of what such an output shows: a stride that is left
out, say, is seen as a stride ignored, and on an axis of a few outputs as windows moved.
"""

from __future__ import annotations

from collections.abc import Mapping

_TABLE = """
tail not_computed: ChannelTailZero LastColumnZeroInTheTail LastRowDropped TilesBeyondHalfABlock OddSampleDropped
tail not_computed: opencl-global-size-rounded-down opencl-one-group-too-few RowsLeftByThreads LastOutputMissing
tail not_computed: StridedDilatedDropsAnOutput opencl-last-output-not-computed opencl-group-base-of-half-a-group
tail not_computed batch_items: BatchBelowALimit
tail one_axis_plane shifted_output: TailStartsAtTheVectorCount RowsBeyondTheUnrollRepeat LastBlockOfOutputChannelsRepeats
channels_dropped: InputChannelTailDropped StridedPathStopsAtSixteenChannels OddChannelsOfAGroup LastChannelOfManyMissing
channels_dropped: opencl-channel-tail-dropped
tail one_axis_plane scaled bias_twice: OverlappingVectorAddsTwice
dropped_tap: TapsBeyondTheUnrollDropped opencl-first-tap-skipped
group_map tail one_axis_plane: DepthwiseTailRepeatsFilters

wrapped: SumWrapsToInt16 SumsKeepBits
saturated: IntegerSumsSaturate PairsSaturate DotOfFourSaturates
accumulation_precision precision_loss: AccumulatesInF16 AccumulatesInTheInputType LongSumsInTwentyBits AvgTruncates
accumulation_precision precision_loss: SumsRoundedTo HalfSumsOfHalves BlocksInBfloat16 MeanInHalf IntegersThroughFloat
accumulation_precision precision_loss: opencl-sums-in-float opencl-half-truncated opencl-half-everywhere
accumulation_precision precision_loss: SumReassociatedInHalf double-through-float-sums
accumulation_precision input_precision precision_loss: opencl-products-in-float ProductsRoundedTo
input_precision precision_loss: Tf32 Bfloat16Operands FourBits TwoBfloat16Terms WeightsThroughText OneOperandRounded
input_precision precision_loss: OperandsTruncated FasterVariantPastALimit double-through-float-operands
input_precision precision_loss: MultiplicationByOneIsACopy
fixed_point: FixedPoint32 FixedPoint48
output_rounding precision_loss: RoundsDownward ResultTruncated ResultRoundedTwice BiasAfterRounding
output_rounding precision_loss: DivisionByReciprocalEstimate opencl-mean-by-a-float-reciprocal FlagNeverCleared
transform_error precision_loss: FftDeclaredDirect WinogradDeclaredDirect
transform_error input_precision precision_loss: WinogradTransformsIn
tail not_computed: WinogradTilesRoundedDown
tile precision_loss: WinogradConstantsOfF43
shifted_taps shifted_output stride_ignored: WinogradForStrideTwo
border_only padding_mode shifted_taps: FftTooShort
flipped_kernel: ConjugateMissing FlippedKernel FlipIgnored FlipsOneAxisOnly AsymmetricKernelFlipped TransposedIsFlipped
flipped_kernel: opencl-flip-ignored opencl-always-flipped opencl-flip-of-the-columns
flipped_kernel: opencl-transposed-flip-ignored opencl-transposed-always-flipped
flipped_kernel swapped_taps: opencl-flip-one-off
channel_order flipped_kernel: FlipReversesChannels
kernel_transposed: KernelTransposed WeightPitchOfTheOtherAxis opencl-tap-pitch-of-the-other-axis
integer_reinterpreted: UnsignedBytes UnsignedWeights HalfTypesMistaken opencl-program-key-lacks-the-type
input_precision output_rounding precision_loss bias_partial: BiasInTheInputType
border_only padding_constant: NoCompensationAtTheBorder
nan_dropped: FiniteMathOnly MaxSwallowsNan opencl-max-swallows-nan opencl-max-forgets-nan MeanSkipsNan NanReadsAsZero

stride_dilation_swapped: StrideDilationSwapped opencl-geometry-stride-dilation
dilation_ignored dilation_off_by_one: DilationIgnored DepthwiseIgnoresDilation SeparablePathIgnoresDilation
dilation_ignored dilation_of_axis dilation_off_by_one: DilationIgnoredOnOneAxis PoolIgnoresDilation TransposedIgnoresDilation
dilation_ignored dilation_of_axis dilation_off_by_one: opencl-dilation-ignored opencl-avg-dilation-ignored
dilation_ignored dilation_of_axis dilation_off_by_one: opencl-max-dilation-ignored opencl-transposed-dilation-ignored
dilation_of_axis dilation_ignored dilation_off_by_one: DilationOfTheFirstAxis opencl-dilation-of-the-other-axis
dilation_of_axis dilation_ignored dilation_off_by_one: opencl-transposed-dilation-of-the-last-axis
dilation_of_axis dilation_ignored dilation_off_by_one: transposed-takes-the-first-axis-dilation
dilation_off_by_one: DilationCountsHoles
shifted_taps dilation_off_by_one: DilationAboutTheCentre
stride_of_axis stride_ignored: StrideOfTheFirstAxis StridesExchanged opencl-stride-of-the-other-axis
stride_of_axis stride_ignored: opencl-max-stride-of-the-other-axis opencl-depth-stride-ignored
stride_of_axis stride_ignored: transposed-takes-the-first-axis-stride opencl-transposed-stride-of-the-last-axis
stride_ignored stride_of_axis: StrideIgnored PointwiseIgnoresStride StrideThreeAsTwo
stride_ignored shifted_taps shifted_output: SubsamplesFromTheSecond
stride_dilation_swapped stride_of_axis stride_ignored: DilationScalesTheOrigin
shifted_taps shifted_output same_side: WindowMoved AnchorOfEvenKernels

border_only padding_mode: FirstColumnMasked LastElementMasked MaskSkippedFromTheSixth OneReadTooMany BoundNotTested
border_only padding_mode: CornersOfPaddingRead opencl-columns-not-tested opencl-rows-not-tested opencl-depth-not-tested
border_only padding_mode: opencl-one-column-too-many opencl-first-element-masked opencl-last-element-masked
border_only padding_mode: opencl-avg-columns-not-tested
border_only tail not_computed one_axis_plane: WindowInPaddingCopiesItsNeighbour OutputsBelowTheDilationZero
padding_ignored shifted_taps: CropIgnored opencl-rows-not-padded
sparse_input: LoneImpulseAtTheBorder SkipsZeroChannels SparseRunOverflows
padding_mode: PaddingIsReplicated
padding_constant: PadsBytesWith
bias_partial border_only: BorderWithoutBias
tile: HaloOfATileMissing
pads_swapped same_side: PadsSwapped PadsSwappedOnOneAxis PoolPadsSwapped TransposedPadsSwapped
pads_swapped same_side: opencl-high-for-low opencl-geometry-low-high
pads_of_axes_swapped pads_swapped same_side shifted_taps: PadsInterleaved PadsLastAxisFirst opencl-low-of-the-other-axis
pads_of_axes_swapped pads_swapped same_side shifted_taps: PadsOfTheFirstAxis
symmetric_padding pads_swapped same_side: PadsMadeSymmetric PadsOfTheSmallerSide
same_side shifted_taps pads_swapped: PadsMovedByOne SameUpperIsLower SameLowerIsUpper
pads_swapped symmetric_padding same_side: HighPadMeansLow
shifted_taps same_side padding_ignored: SameIgnoresDilation SameIgnoresStride SameTotalNotClamped
padding_mode border_only: ReflectRepeatsTheEdge CircularReadsZeros CircularNeedsHighPadding ReplicateReadsOneIn
padding_mode border_only: ModeTakenForAnother CircularWrapsOneOff ModeOnOneSide ModeOnTheLastAxis ReflectsTheLowSideTwice
padding_mode border_only: opencl-circular-one-off opencl-circular-mirrored opencl-reflect-low-repeats-the-edge
padding_mode border_only: opencl-reflect-high-repeats-the-edge opencl-replicate-takes-the-first
padding_mode border_only: opencl-mode-numbers-out-of-step
padding_mode border_only pads_of_axes_swapped: CircularAxesSwapped

output_padding_zero tail not_computed: OutputPaddingIsZero DilatedExtentTooShort
weights_io_swapped: TransposedWeightsOutFirst WeightsInFirst opencl-transposed-weights-out-first
transpose_padding shifted_output: PaddingAddedToTheInput OutputPaddingInFront opencl-transposed-padding-added
stride_ignored tile: PhaseNotTested opencl-transposed-phase-not-tested StrideBeyondTheKernelOverlaps
border_only tail not_computed one_axis_plane: LastInputNotStamped
group_map: TransposedGroupsReadGroup0 EveryGroupReadsGroup0 GroupIsModulo GroupsReadBackwards EveryGroupUsesTheFirstFilters
group_map: opencl-group-is-modulo opencl-group-base-missing opencl-filters-of-the-first-group
group_map: opencl-transposed-group-base-missing opencl-transposed-filter-of-the-first-output
bias_channel: TransposedBiasOfGroup0 BiasOfTheWrongGroup BiasOfTheNextChannel opencl-bias-of-the-first-channel
bias_channel: opencl-bias-of-the-group
channel_order: ThreeChannelsReversed ChannelMovedBy
channel_order group_map: OutputChannelsInterleaved MultiplierOutermost
channel_order batch_items one_axis_plane: PoolReadsTheFirstChannel opencl-avg-of-the-first-channel
batch_items: FirstSampleForAll SamplesReversed SamplesAreSummed SampleStrideOfOneGroup
batch_items: opencl-sample-pitch-of-a-group opencl-batch-innermost
overwritten: LastWriterWins BorderOfThreadsOverwritten

ceil_floor: CeilForFloor OverhangMovedInside
ceil_floor tail not_computed: OverhangIsZero
ceil_floor border_only: OverhangReadsTheEdge
divisor: AvgAlwaysDividesByK OverhangCounted PaddingNeverCounted PaddingAlwaysCounted DivisorOfTheFirstOutput
divisor: LowSideCountsAsData opencl-padding-never-counted opencl-always-the-window opencl-overhang-counted
divisor: opencl-divisor-of-the-other-axis
pool_kind scaled divisor: SumForAMean
max_identity_zero activation: MaxPadsWithZero MaxStartsFromZero opencl-max-starts-from-zero
pool_kind: MaxIsOfMagnitudes opencl-min-for-max
flush_denormals: SmallNumbersAreNoise FlushesSubnormals FlushesResults
infinity_clipped: ScalesToKeepSubnormals ClipsToFinite HalvesClipped SumStopsAtOverflow MaxStartsFromLowestFinite
intermediate_overflow infinity_clipped: ScalesToKeepSubnormals OverflowBecomesNan InfinityIsSplit

input_precision index_limit shifted_taps: IndicesInF16
index_limit tail not_computed: ZeroPastALimit opencl-work-item-in-ten-bits
index_limit one_axis_plane channel_order: ChannelIndexWraps
index_limit one_axis_plane border_only tail: ColumnIndexIsSigned RowOffsetKeepsLowBits opencl-element-in-a-byte
dropped_tap swapped_taps: opencl-tap-in-four-bits

bias_twice: BiasTwice
bias_ignored: BiasIgnored opencl-bias-ignored opencl-transposed-bias-ignored
bias_sign: BiasSubtracted
bias_partial batch_items bias_ignored: BiasOnTheFirstSample
zero_input bias_ignored: ZeroInputGivesZero
activation: NegativeResultsAreZero
bias_channel one_axis_plane: BiasAlongTheColumns

not_computed: LastColumnNotWritten CornerNotWritten LastSampleNotWritten ZerosNotStored OddRowsNotWritten
memory_preset stale_output nondeterministic: AccumulatesIntoOut ScratchNotCleared opencl-sum-starts-from-the-output
memory_preset stale_output nondeterministic: opencl-transposed-sum-not-cleared
written_beside: WritesPastOut WritesBeforeOut
guard_read nan_spread: ReadsPastTheInput ReadsOneTapMore MaxReadsPastTheInput ReadsBefore ReadsPast
input_overwritten: InputModifiedInPlace FlipsWeightsInPlace ActivatesInputInPlace BiasScaledInPlace
input_axes_transposed: RowPitchOfTheOtherAxis opencl-row-pitch-of-the-other-axis
memory_layout: StridesIgnored NegativeStrideAsAbsolute FortranOrderIgnored LastStrideTakenForOne AddressRoundedDown
layout_nhwc: ChannelsTakenForLast
output_transposed: SquareOutputTransposed opencl-axes-in-reverse

stale_weights prepared_state: WeightsPackedByShape WeightsOfTheCallBefore WeightsKeptByChecksum BiasKeptWithWeights
stale_weights prepared_state: KeyIsTheFirstBytes uploaded-once-w uploaded-once-b KeyLacksBias
stale_output prepared_state stale_weights: ResultsKeptByInput ResultsKeptByChecksum uploaded-once-x
flipped_kernel stale_weights: KeyLacksFlip
prepared_state nondeterministic stale_output: WrongFromTheThirdCall RepeatsFromAnF16Cache
nondeterministic stale_weights: ScratchShared ConcurrentCallsShareWeights
nondeterministic stale_output: ConcurrentCallsShareTheSum
nondeterministic prepared_state stale_weights: BarrierMissing TapsInRandomOrder OrderOfTheSumVaries NowAndThenAnElementLost
tail channels_dropped one_axis_plane index_limit: PartialSumLost
stride_ignored stride_of_axis shifted_taps: plan-key-lacks-stride
shifted_taps padding_ignored pads_swapped same_side: plan-key-lacks-padding
dilation_ignored dilation_of_axis dilation_off_by_one: plan-key-lacks-dilation
padding_mode border_only: plan-key-lacks-padding-mode
"""


def _read(table: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in filter(None, table.split("\n")):
        ids, _, names = line.partition(":")
        for name in names.split():
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *ids.split())))
    return found


#: Fault or mutation to the accepted ids.
NAMED = _read(_TABLE)
